#!/usr/bin/env bash
# Runs the demo server for MINUTES (default 30) under calls of all protocols and under faults of peers, and checks that its
# memory, descriptors and threads stay flat: tests/soak/soak.py says with which tolerance.
#
#   tests/soak.sh [MINUTES]
#
#   RATE   calls per second of all protocols together (default 800, some 20 % of one core)
#   OUT    folder of the results: table.md, samples.csv, soak.svg (default: target/soak)
#   BIN    folder with `coreloop` and `loadgen`, instead of building them
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
if [[ -z ${BIN:-} ]]; then
  cargo build -q --release -p coreloop-cli -p coreloop-bench --bin coreloop --bin loadgen
fi
exec python3 tests/soak/soak.py --bin "${BIN:-$target/release}" --out "${OUT:-$target/soak}" --rate "${RATE:-800}" --minutes "${1:-30}"
