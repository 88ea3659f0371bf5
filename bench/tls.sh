#!/usr/bin/env bash
# Measures what TLS costs a server, beside nginx with the same certificate and cipher: the tables of docs/tls.md.
#
# CPU time of the server, from the kernel's account of its process, so that other load on the machine matters little. Each server
# has one thread for connections on core SERVER_CORE, the clients run on CLIENT_CORE, and the rounds are interleaved.
#
#   ROUNDS       rounds (default 3)
#   SECONDS_EACH length of each measurement (default 3)
#   SERVER_CORE, CLIENT_CORE (default 0 and 1)
#   BIN          folder with the programs coreloop and loadgen (default: they are built)
#
# Needs nginx, openssl and python3.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-3} server_core=${SERVER_CORE:-0} client_core=${CLIENT_CORE:-1}

target=${BIN:-${CARGO_TARGET_DIR:-target}/release}
[[ -n ${BIN:-} ]] || cargo build -q --release -p coreloop-cli -p coreloop-bench --bin coreloop --bin loadgen
folder=$(mktemp -d)
servers=()
trap 'for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done; wait; rm -rf "$folder"' EXIT

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
  -keyout "$folder/key.pem" -out "$folder/cert.pem" 2>/dev/null

# Starts `coreloop serve` with these arguments; sets `address` and `pid` when it serves.
serve() {
  : >"$folder/out"
  taskset -c "$server_core" "$target/coreloop" serve --admin off --cores 1 --workers 1 --listen 127.0.0.1:0 "$@" \
    >"$folder/out" 2>>"$folder/err" &
  pid=$!
  servers+=("$pid")
  until grep -q '^listening on ' "$folder/out"; do
    kill -0 "$pid"
    sleep 0.01
  done
  address=$(sed -n 's/^listening on //p' "$folder/out")
}
serve
plain=$address plain_pid=$pid
serve --set "tls.certificate=$folder/cert.pem" --set "tls.key=$folder/key.pem"
secured=$address secured_pid=$pid

# Ports that are free now; nginx does not choose them itself.
read -r nginx_plain nginx_secured < <(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))')
taskset -c "$server_core" sh bench/peers/nginx/serve.sh "127.0.0.1:$nginx_plain" 1 \
  "127.0.0.1:$nginx_secured" "$folder/cert.pem" "$folder/key.pem" 2>>"$folder/err" &
servers+=($!)
until openssl s_client -connect "127.0.0.1:$nginx_secured" </dev/null >/dev/null 2>&1; do
  kill -0 "${servers[-1]}"
  sleep 0.01
done
nginx_pid=$(pgrep -P "${servers[-1]}")

# What is negotiated, by the same client with both servers.
for at in "$secured" "127.0.0.1:$nginx_secured"; do
  printf '%s: ' "$at"
  openssl s_client -connect "$at" -CAfile "$folder/cert.pem" -alpn http/1.1 </dev/null 2>/dev/null |
    grep -E '^(New,|Server Temp Key|Peer signature type)' | tr '\n' ';'
  echo
done

# load NAME PID ADDRESS CONNECTIONS DEPTH METHOD: appends the CPU time of a call, in ns, to the figures of NAME.
load() {
  local trust=()
  [[ $3 != *tls:* && $3 != https:* ]] || trust=(--ca "$folder/cert.pem")
  "$target/loadgen" "$3" "${trust[@]}" --connections "$4" --depth "$5" --method "$6" --pin "$client_core" \
    --watch "$2" --warmup 0.5s --duration "${seconds}s" --quiet --json "$folder/figures" >"$folder/shown" 2>&1 ||
    { cat "$folder/shown"; exit 1; }
  python3 -c 'import json, sys; print(round(json.load(open(sys.argv[1]))["server"]["cpu_ns_per_call"]))' \
    "$folder/figures" >>"$folder/$1"
}
# CPU time of a process, in clock ticks.
ticks() {
  awk '{ print $14 + $15 }' "/proc/$1/stat"
}
# handshakes NAME PID ADDRESS: appends the CPU time of a full handshake, in ns, to the figures of NAME. Each connection is
# closed after its handshake.
handshakes() {
  local before after clients=() file
  before=$(ticks "$2")
  for file in 1 2 3 4; do
    taskset -c "$client_core" openssl s_time -connect "$3" -new -tls1_3 -time "$seconds" >"$folder/s_time.$file" 2>/dev/null &
    clients+=($!)
  done
  wait "${clients[@]}"
  after=$(ticks "$2")
  python3 - "$folder" "$((after - before))" "$(getconf CLK_TCK)" >>"$folder/$1" <<'PYTHON'
import re, sys
folder, ticks, per_second = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
# Two lines of a file count them: in the CPU time of the client, and in real seconds.
counts = [re.findall(r"^(\d+) connections in \d+ real seconds", open(f"{folder}/s_time.{n}").read(), re.M) for n in range(1, 5)]
print(round(ticks / per_second * 1e9 / sum(int(count[0]) for count in counts)))
PYTHON
}

uptime
for ((round = 0; round < rounds; round++)); do
  load http-64x1 "$plain_pid" "http:$plain" 64 1 Arith.Add
  load http-64x1-tls "$secured_pid" "https:$secured" 64 1 Arith.Add
  load nginx-64x1 "$nginx_pid" "http:127.0.0.1:$nginx_plain" 64 1 Arith.Add
  load nginx-64x1-tls "$nginx_pid" "https:127.0.0.1:$nginx_secured" 64 1 Arith.Add
  load http-64x16 "$plain_pid" "http:$plain" 64 16 Arith.Add
  load http-64x16-tls "$secured_pid" "https:$secured" 64 16 Arith.Add
  load native-64x1 "$plain_pid" "native:$plain" 64 1 Arith.AddFixed
  load native-64x1-tls "$secured_pid" "native+tls:$secured" 64 1 Arith.AddFixed
  load native-64x16 "$plain_pid" "native:$plain" 64 16 Arith.AddFixed
  load native-64x16-tls "$secured_pid" "native+tls:$secured" 64 16 Arith.AddFixed
  handshakes handshake-coreloop "$secured_pid" "$secured"
  handshakes handshake-nginx "$nginx_pid" "127.0.0.1:$nginx_secured"
done
uptime

python3 - "$folder" <<'PYTHON'
import statistics, sys
folder = sys.argv[1]
def figures(name):
    return sorted(int(line) for line in open(f"{folder}/{name}"))
def shown(name):
    ns = figures(name)
    return f"{statistics.median(ns) / 1000:.2f} [{ns[0] / 1000:.2f}–{ns[-1] / 1000:.2f}]"
def ratio(one, other):
    return f"{statistics.median(figures(one)) / statistics.median(figures(other)):.2f}"
print("\n| CPU time of the server per request, µs | without TLS | with TLS | ratio |\n|---|---|---|---|")
for name in ["http-64x1", "nginx-64x1", "http-64x16", "native-64x1", "native-64x16"]:
    print(f"| {name} | {shown(name)} | {shown(name + '-tls')} | {ratio(name + '-tls', name)} |")
print("\n| full handshakes | CPU time of the server, µs | per second and core |\n|---|---|---|")
for name in ["coreloop", "nginx"]:
    each = figures(f"handshake-{name}")
    print(f"| {name} | {shown(f'handshake-{name}')} | {round(1e9 / statistics.median(each))} |")
PYTHON
