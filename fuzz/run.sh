#!/bin/sh
# Runs every fuzz target from its kept corpus, each for SECONDS (default: SECONDS_EACH, or 10); fails on a crash.
#
#   fuzz/run.sh [SECONDS] [TARGET…]
#   fuzz/run.sh --total SECONDS [TARGET…]     all targets in this time together, without building: 3600 for an hour
#
# Before each target it prints which one it is, how long all have run, and how much is left. Inputs that were found earlier
# are used again: a run goes on where the last one ended.
#
# All targets are one program, coreloop-fuzz: the environment variable FUZZ_TARGET names the target, FUZZ_TARGET=list prints
# their names. To run one input again: FUZZ_TARGET=TARGET fuzz/target/HOST/release/coreloop-fuzz FILE. libFuzzer is slower the
# more code the program holds, so for a run of a minute or more FUZZ_ONLY links a program of the target alone: some seconds,
# for up to twelve times as many inputs.
#
# It needs a compiler and nothing else: nightly if it is installed, otherwise stable with RUSTC_BOOTSTRAP=1. The flags are
# those that cargo-fuzz sets. New inputs are kept under fuzz/target/found; an input that crashes is written to
# fuzz/artifacts/TARGET.
set -eu
cd "$(dirname "$0")"

total=
if [ "${1:-}" = --total ]; then
    total=${2:?--total needs a number of seconds}
    shift 2
else
    seconds=${1:-${SECONDS_EACH:-10}}
    [ $# -gt 0 ] && shift
fi

if rustup toolchain list 2>/dev/null | grep -q '^nightly'; then
    export RUSTUP_TOOLCHAIN=nightly
else
    export RUSTC_BOOTSTRAP=1
fi
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}"
# The passes of libFuzzer, and the address sanitizer.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Zsanitizer=address"
# Named, so that build scripts and macros are built without the flags.
build() {
    FUZZ_ONLY=$1 cargo build --release --target "$host" --bins
}
build ""
fuzzer=$CARGO_TARGET_DIR/$host/release/coreloop-fuzz

known=$(FUZZ_TARGET=list "$fuzzer")
targets=${*:-$known}
for target in $targets; do
    if ! echo "$known" | grep -qxF -e "$target"; then
        echo "$target: expected a target, one of" $known >&2
        exit 2
    fi
done
count=$(echo "$targets" | wc -w)
if [ -n "$total" ]; then
    seconds=$((total / count))
    [ "$seconds" -gt 0 ] || { echo "--total: expected at least $count seconds, one for each target" >&2; exit 2; }
fi

number=0
began=$(date +%s)
for target in $targets; do
    number=$((number + 1))
    found=$CARGO_TARGET_DIR/found/$target
    mkdir -p "$found" "artifacts/$target"
    echo "== $target ($number of $count), $seconds s; $(($(date +%s) - began)) s so far, $(((count - number + 1) * seconds)) s left"
    [ "$seconds" -lt 60 ] || build "$target"
    # One allocation of 64 MiB or five seconds of work for 4 KiB of input is a fault like a panic.
    FUZZ_TARGET=$target "$fuzzer" -max_total_time="$seconds" -max_len=4096 -timeout=5 \
        -malloc_limit_mb=64 -rss_limit_mb=1024 -artifact_prefix="artifacts/$target/" -print_final_stats=1 \
        "$found" "corpus/$target" 2>&1 | tee "$found.log" | grep -E '^stat::(number_of_executed|peak_rss)|ERROR|panicked|Test unit' || true
    if ! grep -q '^Done' "$found.log"; then
        tail -60 "$found.log"
        echo "$target: a fault was found; the input is under fuzz/artifacts/$target" >&2
        exit 1
    fi
done
echo "all $count targets without a fault, in $(($(date +%s) - began)) s"
