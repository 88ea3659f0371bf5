#!/usr/bin/env bash
# Prints the table of docs/features.md: the size of a stripped server with each feature, and of the command line.
#
#   deploy/sizes.sh [FEATURE…]      default: all; each is a build with optimization, a minute or two on one core
#
# The server is examples/small, in the release profile, with the feature `server` and those of the row.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}/sizes
features=(${*:-server default json http jsonrpc gob netrpc fixed compact messagepack protobuf grpc lz4 macros signals client
  restart config-file agents discovery trace tracing usdt metrics otlp log admin profile tls-ring tls full})

kib() {
  strip -o "$target/stripped" "$1"
  echo $((($(stat -c %s "$target/stripped") + 512) / 1024))
}

# Builds the server with a feature of the library; prints its size in KiB.
measure() {
  local features=coreloop/$1
  [[ $1 != server ]] || features=
  CARGO_TARGET_DIR=$target cargo build -q --release --manifest-path examples/small/Cargo.toml --no-default-features \
    --features "$features"
  kib "$target/release/small"
}

base=$(measure server)
printf '| features of the library | KiB | more than `server` alone |\n|---|---|---|\n'
for feature in "${features[@]}"; do
  size=$(measure "$feature")
  printf '| `%s` | %d | %d |\n' "$feature" "$size" "$((size - base))"
done
CARGO_TARGET_DIR=$target cargo build -q --profile small --manifest-path examples/small/Cargo.toml
printf '| `server` and `http`, in the profile `small` | %d | |\n' "$(kib "$target/small/small")"
if (($# == 0)); then
  cargo build -q --release -p coreloop-cli
  printf '| the program `coreloop` | %d | |\n' "$(kib "${CARGO_TARGET_DIR:-target}/release/coreloop")"
fi
