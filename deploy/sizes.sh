#!/usr/bin/env bash
# Prints the table of docs/small.md: the size of a stripped server with each of the features that matter, and of the command
# line. Each row is a build with optimization, a minute or two on one core.
#
#   deploy/sizes.sh [FEATURE…]      default: those of the table, and the profile `small`
#
# The server is examples/small: with the feature `server` and that of the row, in the release profile (thin LTO) unless the
# row says otherwise. Code that no setting of the server reaches is not in it: `client` alone adds nothing, for example.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
features=("$@")
(($#)) || features=(default http grpc tls-ring tls metrics discovery otlp admin profile full)

kib() {
  strip -o "$target/sizes/stripped" "$1"
  echo $((($(stat -c %s "$target/sizes/stripped") + 512) / 1024))
}

# Builds examples/small with further arguments for cargo.
build() {
  CARGO_TARGET_DIR=$target/sizes cargo build -q --manifest-path examples/small/Cargo.toml --no-default-features "$@"
}

printf '%s, %s, %s\n\n' "$(date +%F)" "$(rustc -vV | sed -n 's/^host: //p')" "$(rustc -V | cut -d' ' -f1,2)"
printf '| features | KiB | more than `server` alone |\n|---|---|---|\n'
build --release
base=$(kib "$target/sizes/release/small")
printf '| `server` alone | %d | |\n' "$base"
for feature in "${features[@]}"; do
  build --release --features "coreloop/$feature"
  size=$(kib "$target/sizes/release/small")
  printf '| `%s` | %d | %d |\n' "$feature" "$size" "$((size - base))"
done
if (($# == 0)); then
  for feature in http tls-ring; do
    build --profile small --features "coreloop/http,coreloop/$feature"
    printf '| %s, cargo profile `small` (fat LTO, for size) | %d | |\n' \
      "$([[ $feature == http ]] && echo '`http`' || echo '`http` and `tls-ring`')" "$(kib "$target/sizes/small/small")"
  done
  for profile in release small; do
    cargo build -q --profile "$profile" -p coreloop-cli
    printf '| the program `coreloop`, cargo profile `%s` | %d | |\n' "$profile" "$(kib "$target/$profile/coreloop")"
  done
fi
