#!/usr/bin/env bash
# Prints the table "Resident memory" of docs/small.md: servers with nothing to do, and under load, on loopback.
#
#   deploy/resident.sh [SECONDS]      length of each load, default 3
#
# Each connection has one call in flight. The figures are VmRSS, RssAnon and RssFile of /proc/PID/status while the load runs.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-3}
target=${CARGO_TARGET_DIR:-$PWD/target}
log=$(mktemp)
server=
trap '[[ -z $server ]] || kill "$server" 2>/dev/null || true; rm -f "$log"' EXIT

cargo build -q --release -p coreloop-cli -p coreloop-bench --bin coreloop --bin loadgen
cargo build -q --profile small -p coreloop-cli
small() {
  CARGO_TARGET_DIR=$target/sizes cargo build -q --manifest-path examples/small/Cargo.toml "$@"
}
small --profile small
small --release --no-default-features --features coreloop/default
loadgen=$target/release/loadgen

mib() {
  awk -v name="$1:" '$1 == name { printf "%.1f", $2 / 1024 }' "/proc/$server/status"
}

# row NAME CONNECTIONS LOAD PROGRAM…: `{}` in LOAD is the server's address.
row() {
  local name=$1 connections=$2 load=$3 address idle
  shift 3
  "$@" >"$log" 2>&1 &
  server=$!
  for _ in {1..100}; do
    address=$(grep -ohm1 '127\.0\.0\.1:[0-9]*' "$log" || true)
    [[ -n $address && $address != *:0 ]] && break
    sleep 0.1
  done
  [[ -n $address ]] || { cat "$log" >&2; exit 1; }
  idle=$(mib VmRSS)
  # shellcheck disable=SC2086 # several arguments
  "$loadgen" ${load//\{\}/$address} --connections "$connections" --depth 1 --duration "${seconds}s" --warmup 0 >"$log.load" 2>&1 &
  local generator=$!
  sleep "$(awk "BEGIN { print $seconds - 0.5 }")"
  printf '| %s | %s | %s | %s | %s | %s |\n' "$name" "$connections" "$idle" "$(mib VmRSS)" "$(mib RssAnon)" "$(mib RssFile)"
  wait "$generator" || { cat "$log.load" >&2; exit 1; }
  rm -f "$log.load"
  kill "$server"
  wait "$server" 2>/dev/null || true
  server=
}

printf '%s, %s\n\n' "$(date +%F)" "$(rustc -vV | sed -n 's/^host: //p')"
printf '| program | connections | idle | busy | of which anonymous | of which pages of files |\n|---|---|---|---|---|---|\n'
double='http:{} --method Device.Double --body 21'
serve=(serve --listen 127.0.0.1:0 --admin off)
row 'the example, profile `small`' 24 "$double" "$target/sizes/small/small" 127.0.0.1:0
row 'the example, profile `small`' 400 "$double" "$target/sizes/small/small" 127.0.0.1:0 400
row 'the example, feature `default`, profile `release`' 400 "$double" "$target/sizes/release/small" 127.0.0.1:0 400
row '`coreloop`, cargo profile `small`' 400 '{}' "$target/small/coreloop" "${serve[@]}"
row '`coreloop`, profile `release`' 400 '{}' "$target/release/coreloop" "${serve[@]}"
row 'the same with its admin listener' 400 '{}' "$target/release/coreloop" serve --listen 127.0.0.1:0 --admin 127.0.0.1:0
