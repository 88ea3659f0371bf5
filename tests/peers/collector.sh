#!/usr/bin/env bash
# Prints the path of an OpenTelemetry Collector: the one that COLLECTOR names, else one that is built of the parts that the
# tests need (tests/go/collector) and kept in target/peers.
#
#   tests/peers/collector.sh [--if-built]
#
# Building it needs Go and its module proxy, and takes some minutes the first time. With --if-built it fails instead.
set -euo pipefail
cd "$(dirname "$0")/../.."
if test -n "${COLLECTOR:-}"; then
  echo "$COLLECTOR"
  exit
fi
peers=$PWD/target/peers
# Another version of the parts is another binary.
version=$(sha256sum tests/go/collector/go.mod tests/go/collector/main.go | sha256sum | cut -c1-16)
binary=$peers/collector-$version
if ! test -x "$binary"; then
  test "${1:-}" != --if-built || exit 1
  mkdir -p "$peers"
  # Test binaries of one run may come here at the same time.
  exec 9>"$peers/collector.lock"
  flock 9
  if ! test -x "$binary"; then
    (cd tests/go/collector && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$binary.new" .) >&2
    mv "$binary.new" "$binary"
  fi
fi
echo "$binary"
