#!/usr/bin/env bash
# Restarts a server under load, protocol by protocol, and prints what became of the calls: the table of docs/operation.md.
#
#   RESTARTS   restarts in a row (default 10); the number of reactors goes 4, 2, 4
#   RATE       calls per second (default 1000)
#   PAUSE      seconds between two restarts (default 1)
set -euo pipefail
cd "$(dirname "$0")/.."
restarts=${RESTARTS:-10} rate=${RATE:-1000} pause=${PAUSE:-1}

cargo build -q --release -p coreloop-cli -p coreloop-bench --bin coreloop --bin loadgen
target=${CARGO_TARGET_DIR:-target}/release
folder=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT

# Starts a server with this many reactors; returns when it serves.
start() {
  "$target/coreloop" serve --listen "${address:-127.0.0.1:0}" --admin off --takeover "$folder/takeover" --cores "$1" \
    >"$folder/out" 2>>"$folder/err" &
  server=$!
  until grep -q '^listening on ' "$folder/out"; do
    kill -0 "$server"
    sleep 0.01
  done
}

printf '| protocol | restarts | calls | failed | connections lost | not read by a server | slowest call, ms |\n'
printf '|---|---|---|---|---|---|---|\n'
for protocol in native http grpc gob jsonrpc; do
  : >"$folder/err"
  address=
  start 4
  address=$(sed -n 's/^listening on //p' "$folder/out")
  seconds=$((restarts * pause + 2 * restarts + 3))
  "$target/loadgen" "$protocol:$address" --method Arith.Multiply --connections 16 --depth 1 --rate "$rate" --warmup 0s \
    --duration "${seconds}s" --json "$folder/figures" >/dev/null 2>&1 &
  load=$!
  sleep 1
  for ((restart = 0; restart < restarts; restart++)); do
    old=$server
    start $((restart % 2 ? 4 : 2))
    wait "$old"
    sleep "$pause"
  done
  # Its exit status tells that connections were lost, which the figures say too.
  wait "$load" || true
  kill "$server"
  wait "$server"
  server=
  unread=$(sed -n 's/.*drain-unread \([0-9]*\).*/\1/p' "$folder/err" | paste -sd+ | sed 's/^$/0/')
  python3 - "$protocol" "$restarts" "$((unread))" "$folder/figures" <<'PYTHON'
import json, sys
protocol, restarts, unread, path = sys.argv[1:]
figures = json.load(open(path))
total, connections = figures["total"], figures["connections"]
slowest = total["latency"]["max_ns"] / 1e6
print(f"| {protocol} | {restarts} | {total['ok'] + total['errors']} | {total['errors']} | {connections['lost']} | {unread} | {slowest:.1f} |")
PYTHON
done
