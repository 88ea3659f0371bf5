#!/usr/bin/env bash
# The long forms of the tests of clients that have several servers. What is measured is printed.
#
#   SIM_SEEDS   seeds of the simulation (default 10000)
set -euo pipefail
cd "$(dirname "$0")/.."

SIM_SEEDS="${SIM_SEEDS:-10000}" cargo test --release -p coreloop --test simulation fleet -- --nocapture
# One after the other: they measure.
cargo test --release -p coreloop-cli --test failures long -- --ignored --nocapture --test-threads=1
