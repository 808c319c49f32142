#!/bin/sh
# Installs what the build needs from the system and is missing: a C/C++ compiler and RocksDB's headers and library.
# Says what it does. Asks for sudo only when it is not root and something is missing. Does nothing when all is there.
set -eu

say() { printf '%s\n' "$*" >&2; }

missing=""
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
command -v c++ >/dev/null 2>&1 || missing="$missing g++"
[ -f /usr/include/rocksdb/c.h ] || [ -f /usr/local/include/rocksdb/c.h ] || missing="$missing librocksdb-dev"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	say "Missing:$missing (Debian's names), and this system has no apt-get."
	say "Install a C and C++ compiler and RocksDB with its headers (rocksdb/c.h), in a version of docs/build.md; then run this again:"
	say "  Fedora: dnf install gcc gcc-c++ rocksdb-devel     macOS: xcode-select --install; brew install rocksdb"
	exit 1
fi
if [ "$(id -u)" = 0 ]; then as_root=""; else as_root="sudo"; fi
say "Installing$missing through apt-get${as_root:+ (with sudo)}"
# shellcheck disable=SC2086 # words on purpose
$as_root env DEBIAN_FRONTEND=noninteractive sh -c "apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing" >&2
