#!/usr/bin/env bash
# Restarts a server under load, protocol by protocol, and prints what became of the calls: the table of docs/operation.md.
#
#   RESTARTS   restarts in a row (default 10); the number of reactors goes 4, 2, 4
#   RATE       calls per second (default 1000)
#   PAUSE      seconds between two restarts (default 1)
#   PROTOCOLS  as in the addresses of the load generator
#              (default: native http grpc gob jsonrpc, and if the generator has TLS native+tls https grpc+tls)
#   BIN        the folder of coreloop and loadgen (default: they are built, optimized)
#
# It needs openssl for the certificate of the server.
set -euo pipefail
cd "$(dirname "$0")/.."
restarts=${RESTARTS:-10} rate=${RATE:-1000} pause=${PAUSE:-1}

if [[ -z ${BIN:-} ]]; then
  cargo build -q --release -p coreloop-cli -p coreloop-bench --bin coreloop --bin loadgen
  BIN=${CARGO_TARGET_DIR:-target}/release
fi
plain="native http grpc gob jsonrpc" secured=
! "$BIN/loadgen" --help | grep -q -- '--ca ' || secured="native+tls https grpc+tls"
protocols=${PROTOCOLS:-$plain $secured}
folder=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -keyout "$folder/key.pem" \
  -out "$folder/cert.pem" -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
  -addext basicConstraints=critical,CA:FALSE 2>/dev/null

# Starts a server with this many reactors; returns when it serves. It serves connections with and without TLS.
start() {
  : >"$folder/out"
  "$BIN/coreloop" serve --listen "${address:-127.0.0.1:0}" --admin off --takeover "$folder/takeover" --cores "$1" \
    --set "tls.certificate=$folder/cert.pem" --set "tls.key=$folder/key.pem" --set tls.mode=optional \
    >>"$folder/out" 2>>"$folder/err" &
  server=$!
  until grep -q '^listening on ' "$folder/out"; do
    kill -0 "$server"
    sleep 0.01
  done
}

# A connection is lost if it ends without a notice. A client sends a call again that was lost with its connection.
printf '| protocol | restarts | calls | failed | to be sent again | connections drained | lost | not read by a server | p99, ms | slowest, ms |\n'
printf '|---|---|---|---|---|---|---|---|---|---|\n'
for protocol in $protocols; do
  : >"$folder/err"
  address= ca=()
  [[ $protocol != *tls && $protocol != https ]] || ca=(--ca "$folder/cert.pem")
  start 4
  address=$(sed -n 's/^listening on //p' "$folder/out")
  seconds=$((restarts * pause + 2 * restarts + 3))
  "$BIN/loadgen" "$protocol:$address" "${ca[@]}" --method Arith.Multiply --connections 16 --depth 1 --rate "$rate" \
    --warmup 0s --duration "${seconds}s" --json "$folder/figures" >"$folder/load" 2>&1 &
  load=$!
  sleep 1
  for ((restart = 0; restart < restarts; restart++)); do
    old=$server
    start $((restart % 2 ? 4 : 2))
    wait "$old"
    sleep "$pause"
  done
  # Its exit status tells that connections were lost, which the figures say too.
  wait "$load" || [[ -s $folder/figures ]] || { cat "$folder/load"; exit 1; }
  kill "$server"
  wait "$server"
  server=
  unread=$(sed -n 's/.*drain-unread \([0-9]*\).*/\1/p' "$folder/err" | paste -sd+ | sed 's/^$/0/')
  python3 - "$protocol" "$restarts" "$((unread))" "$folder/figures" <<'PYTHON'
import json, sys
protocol, restarts, unread, path = sys.argv[1:]
figures = json.load(open(path))
total, connections, latency = figures["total"], figures["connections"], figures["total"]["latency"]
columns = [
    protocol, restarts, total["ok"] + total["errors"], total["errors"] - total["lost"], total["lost"],
    connections["drained"], connections["lost"], unread,
    f"{dict(map(tuple, latency['percentiles']))[99] / 1e6:.1f}", f"{latency['max_ns'] / 1e6:.1f}",
]
print("|", " | ".join(str(column) for column in columns), "|")
PYTHON
  rm "$folder/figures"
done
