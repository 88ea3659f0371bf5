#!/usr/bin/env bash
# Measures what open pages of the console cost calls: latency at a fixed rate without and with them, and CPU time of the server
# for each call. The figures of docs/observability.md.
#
# The server is on core SERVER_CORE, the load and the pages on CLIENT_CORE, and the rounds are interleaved: first without pages, then
# with the event streams of the overview, the live calls, the reactors and the queues, which are looked at every second.
#
#   ROUNDS       rounds (default 3)
#   SECONDS_EACH length of each measurement (default 5)
#   RATE         calls per second (default 20000)
#   SERVER_CORE, CLIENT_CORE (default 0 and 1)
#   BIN          folder with the programs coreloop and loadgen (default: they are built)
#
# Needs curl and python3.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-5} rate=${RATE:-20000} server_core=${SERVER_CORE:-0} client_core=${CLIENT_CORE:-1}

target=${BIN:-${CARGO_TARGET_DIR:-target}/release}
[[ -n ${BIN:-} ]] || cargo build -q --release -p coreloop-cli -p coreloop-bench --bin coreloop --bin loadgen
folder=$(mktemp -d)
pages=() server=
trap 'kill "${pages[@]}" $server 2>/dev/null || true; wait; rm -rf "$folder"' EXIT

taskset -c "$server_core" "$target/coreloop" serve --admin 127.0.0.1:0 --cores 1 --workers 1 --listen 127.0.0.1:0 \
  >"$folder/out" 2>"$folder/err" &
server=$!
until grep -q '^listening on ' "$folder/out" && grep -q '^admin on ' "$folder/err"; do
  kill -0 "$server"
  sleep 0.05
done
address=$(sed -n 's/^listening on //p' "$folder/out")
console=$(sed -n 's/^admin on \(http:[^ ]*[0-9]\).*/\1/p' "$folder/err")

# Prints the CPU time of the server so far, in clock ticks.
ticks() {
  awk '{ print $14 + $15 }' "/proc/$server/stat"
}

measure() {
  local before
  before=$(ticks)
  taskset -c "$client_core" "$target/loadgen" "$address" --connections 64 --depth 4 --rate "$rate" --duration "${seconds}s" --warmup 0 \
    --json "$folder/run.json" >/dev/null
  python3 - "$1" "$folder/run.json" "$(($(ticks) - before))" "$folder/all" <<'PYTHON'
import json, os, sys
name, path, ticks, out = sys.argv[1:]
total = json.load(open(path))["total"]
def at(percent):
    return next(ns for reached, ns in total["latency"]["percentiles"] if reached >= percent) / 1e3
cpu_us = int(ticks) / os.sysconf("SC_CLK_TCK") * 1e6 / total["ok"]
row = [at(50), at(99), at(99.9), cpu_us]
print(name, *(f"{value:.1f}" for value in row), f"{total['errors']} errors", flush=True)
open(out, "a").write(" ".join([name, *map(str, row)]) + "\n")
PYTHON
}

echo "pages, p50 us, p99 us, p99.9 us, CPU us per call"
for ((round = 0; round < rounds; round++)); do
  measure none
  pages=()
  for page in / /calls /reactors /queues; do
    taskset -c "$client_core" curl -sN "$console/events?page=$page" -o "$folder/page${page//\//-}" &
    pages+=("$!")
  done
  measure four
  kill "${pages[@]}"
  wait "${pages[@]}" 2>/dev/null || true
  # The pages have shown the load.
  for page in / /calls /reactors /queues; do
    (($(grep -c '^event: region' "$folder/page${page//\//-}") >= 1))
  done
done
python3 - "$folder/all" <<'PYTHON'
import statistics, sys
rows = [line.split() for line in open(sys.argv[1])]
for name in ("none", "four"):
    columns = zip(*[map(float, row[1:]) for row in rows if row[0] == name])
    print(name, "median:", *(f"{statistics.median(c):.1f} ({min(c):.1f}-{max(c):.1f})" for c in map(list, columns)))
PYTHON
