#!/usr/bin/env bash
# Builds for aarch64 with musl, statically, and runs it under qemu: the demo server and calls to it in several protocols, the
# server of examples/small, with and without TLS, and a part of the unit tests.
#
#   tests/aarch64.sh [build|tests]      default: both
#
# It needs the packages gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user-static; the target is added with rustup.
set -euo pipefail
cd "$(dirname "$0")/.."
triple=aarch64-unknown-linux-musl
rustup target add "$triple" >/dev/null 2>&1 || true
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/aarch64 CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER=qemu-aarch64-static
# The C of the cryptography is compiled with the headers of glibc: nothing of them may need glibc when it is linked.
export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc AR_aarch64_unknown_linux_musl=aarch64-linux-gnu-ar
export CFLAGS_aarch64_unknown_linux_musl="-mno-outline-atomics -U_FORTIFY_SOURCE -D_GNU_SOURCE"
binaries=$CARGO_TARGET_DIR/$triple/debug
folder=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
# A command that fails without a message of its own (curl, openssl, kill) is named.
set -E
trap 'echo "$0: line $LINENO: status $? of: $BASH_COMMAND" >&2; cat "$folder/err" >&2 2>/dev/null || true' ERR

# Starts a server under qemu and sets `address` once it listens.
start() {
  # Not only by the redirection, which happens in the background: the address of the server before would be found.
  : >"$folder/out"
  qemu-aarch64-static "$@" >"$folder/out" 2>"$folder/err" &
  server=$!
  local tries=0
  until grep -q '^listening on ' "$folder/out"; do
    kill -0 "$server" 2>/dev/null || { cat "$folder/err" >&2; exit 1; }
    ((tries += 1)) && ((tries < 600)) || { echo "it does not listen within 60 s" >&2; exit 1; }
    sleep 0.1
  done
  address=$(sed -n 's/^listening on //p' "$folder/out" | head -1)
}

stop() {
  kill "$server"
  wait "$server" || [[ ${1:-} == any-status ]]
  server=
}

expect() {
  local found
  found=$(timeout 60 "${@:2}")
  [[ $found == "$1" ]] || { echo "expected $1 of ${*:2}; found $found" >&2; exit 1; }
}

build() {
  cargo build -q --target "$triple" -p coreloop-cli
  # Not linked to anything: it runs on any kernel for this machine.
  file "$binaries/coreloop" | grep -Eq 'ARM aarch64.*static(ally|-pie) linked'
  call=(qemu-aarch64-static "$binaries/coreloop" call)
  start "$binaries/coreloop" serve --listen 127.0.0.1:0 --admin off --set profile=small
  for protocol in native http jsonrpc; do
    expect 42 "${call[@]}" "$protocol:$address" Arith.Multiply '{"A":6,"B":7}'
  done
  expect 42 curl -sSd '{"A":6,"B":7}' "http://$address/Arith/Multiply"
  stop
  openssl req -x509 -newkey ed25519 -days 2 -nodes -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$folder/key.pem" -out "$folder/cert.pem" 2>"$folder/err"
  start "$binaries/coreloop" serve --listen 127.0.0.1:0 --admin off --set "tls.certificate=$folder/cert.pem" \
    --set "tls.key=$folder/key.pem"
  expect 42 curl -sS --cacert "$folder/cert.pem" -d '{"A":6,"B":7}' "https://$address/Arith/Multiply"
  stop
  for features in "" tls-ring; do
    cargo build -q --target "$triple" --manifest-path examples/small/Cargo.toml --features "$features"
    start "$binaries/small" 127.0.0.1:0
    expect 42 curl -sSd 21 "http://$address/Device/Double"
    stop any-status
  done
  echo "the servers were built for $triple and answered under qemu"
}

tests() {
  cargo test -q --target "$triple" -p coreloop-bufpool --lib
  cargo test -q --target "$triple" -p coreloop-poller --lib
  # Without those that start programs, or take long under emulation.
  cargo test -q --target "$triple" -p coreloop --lib -- wire:: codec:: conn:: config:: policy:: transport:: message \
    --skip proptest --test-threads=2
}

case ${1:-both} in
  build) build ;;
  tests) tests ;;
  # Not `build && tests`: before `&&` a failed command of the function would not end the script.
  both) build; tests ;;
  *) echo "expected build, tests or nothing; found $1" >&2; exit 2 ;;
esac
