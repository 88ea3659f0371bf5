#!/usr/bin/env bash
# Prints the path of a Consul 1.8.7 binary: the one in PATH if there is one, else that of Debian 11, whose package is
# unpacked below target/peers without being installed.
#
#   tests/peers/consul.sh
#
# It needs apt and the keys of Debian's archive, and uses the mirror of the system's own sources; DEBIAN_MIRROR names another.
set -euo pipefail
cd "$(dirname "$0")/../.."
if command -v consul; then
  exit
fi
peers=$PWD/target/peers
binary=$peers/consul/usr/bin/consul
if ! test -x "$binary"; then
  mkdir -p "$peers"
  # Test binaries of one run may come here at the same time.
  exec 9>"$peers/consul.lock"
  flock 9
fi
if ! test -x "$binary"; then
  apt=$peers/apt
  own=$(apt-get indextargets --format '$(REPO_URI)' | grep /debian | grep -v security | sort -u | head -n 1)
  mirror=${DEBIAN_MIRROR:-$own}
  test -n "$mirror" || { echo "no mirror of Debian is configured: set DEBIAN_MIRROR" >&2; exit 1; }
  mkdir -p "$apt/etc/preferences.d" "$apt/lists/partial" "$apt/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bullseye main" >"$apt/etc/sources.list"
  options=(-o "Dir::Etc::SourceList=$apt/etc/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::Etc::PreferencesParts=$apt/etc/preferences.d"
    -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache::Archives=$apt/archives" -o "Dir::Cache=$apt" -o APT::Sandbox::User=root
    -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false)
  apt-get "${options[@]}" -qq update >&2
  (cd "$apt" && apt-get "${options[@]}" -qq download consul >&2)
  dpkg-deb -x "$apt"/consul_*.deb "$peers/consul.unpacked"
  mv "$peers/consul.unpacked" "$peers/consul"
  rm -rf "$apt"
fi
echo "$binary"
