#!/usr/bin/env bash
# Builds the command line twice, in two folders with other names and with other target folders, and compares the bytes.
#
#   deploy/reproducible.sh [COMMIT]      default: HEAD
#
# What a build depends on, and what is done about it: the folders of the sources, of cargo and of the target (their prefixes are
# replaced in file names, for Rust and for C), the versions of dependencies (`--locked`), the compiler (rust-toolchain.toml), the
# number of code generation units (1 in the release profile), and the time (nothing of ours reads it; SOURCE_DATE_EPOCH is set
# for C). The C compiler must be the same too. To check a binary that somebody else has built, run this at its commit with the
# same compilers and compare the printed sum.
#
#   KEEP   folder for the binary of the first build
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$(git rev-parse "${1:-HEAD}")
cargo_home=${CARGO_HOME:-$HOME/.cargo}
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
unset CARGO_BUILD_RUSTFLAGS RUSTC_WRAPPER CARGO_INCREMENTAL
sysroot=$(rustc --print sysroot)

# Builds the sources in a folder, which is made.
build() {
  local folder=$1
  mkdir -p "$folder"
  git archive "$commit" | tar -x -C "$folder"
  (
    cd "$folder"
    export SOURCE_DATE_EPOCH
    SOURCE_DATE_EPOCH=$(git -C "$OLDPWD" show -s --format=%ct "$commit")
    export RUSTFLAGS="--remap-path-prefix=$folder=/coreloop --remap-path-prefix=$cargo_home=/cargo --remap-path-prefix=$sysroot=/rust"
    export CFLAGS="-ffile-prefix-map=$folder=/coreloop -ffile-prefix-map=$cargo_home=/cargo"
    export CARGO_TARGET_DIR=$folder/target
    cargo build -q --release --locked -p coreloop-cli
    strip -o "$folder/coreloop" target/release/coreloop
  )
}

build "$top/a"
build "$top/another-folder/with/a-longer-name"
first=$top/a/coreloop second=$top/another-folder/with/a-longer-name/coreloop
[[ -z ${KEEP:-} ]] || cp "$first" "$KEEP/coreloop"
if ! cmp "$first" "$second"; then
  echo "the two builds of $commit differ" >&2
  exit 1
fi
echo "the two builds of $commit are the same, $(stat -c %s "$first") bytes:"
rustc --version
sha256sum "$first" | cut -d' ' -f1
