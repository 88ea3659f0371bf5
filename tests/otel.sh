#!/usr/bin/env bash
# Runs the tests beside the OpenTelemetry SDKs of Go and Python (tests/otlp): a chain of processes of all three, propagation, and
# the export by the official definitions. Installs the Python packages into target/venv first.
#
#   tests/otel.sh [--collector] [FILTER]
#
# With --collector a real OpenTelemetry Collector is built, which takes some minutes the first time, and receives what is exported;
# otherwise a receiver in Python does.
set -euo pipefail
cd "$(dirname "$0")/.."
if test "${1:-}" = --collector; then
  tests/peers/collector.sh >/dev/null
  shift
fi
venv=$PWD/target/venv
test -x "$venv/bin/pip" || python3 -m venv "$venv"
"$venv/bin/pip" install -q --disable-pip-version-check opentelemetry-sdk opentelemetry-exporter-otlp-proto-http opentelemetry-propagator-b3
# A program that is missing fails its tests.
CI=true PATH="$venv/bin:$PATH" cargo test -p coreloop --test otlp "$@"
