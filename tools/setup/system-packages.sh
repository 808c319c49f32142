#!/bin/sh
# Installs what the build needs from the system and is missing: a C/C++ compiler and RocksDB's headers and library.
# Says what it does. Asks for sudo only when it is not root and something is missing. Does nothing when all is there.
set -eu

say() { printf '%s\n' "$*" >&2; }

missing=""
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
command -v c++ >/dev/null 2>&1 || missing="$missing g++"
[ -f /usr/include/rocksdb/c.h ] || [ -f /usr/local/include/rocksdb/c.h ] || missing="$missing librocksdb-dev"

if [ -n "$missing" ]; then
	if ! command -v apt-get >/dev/null 2>&1; then
		say "Missing:$missing (Debian's names), and this system has no apt-get."
		say "Install a C and C++ compiler and RocksDB 7.8 with its headers (rocksdb/c.h), then run this again:"
		say "  Fedora: dnf install gcc gcc-c++ rocksdb-devel     macOS: xcode-select --install; brew install rocksdb"
		say "The RocksDB version must suit the binding: see docs/build.md."
		exit 1
	fi
	if [ "$(id -u)" = 0 ]; then as_root=""; else as_root="sudo"; fi
	say "Installing$missing through apt-get${as_root:+ (with sudo)}"
	# shellcheck disable=SC2086 # words on purpose
	$as_root env DEBIAN_FRONTEND=noninteractive sh -c "apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing" >&2
fi

# The binding is compiled against the headers: another major fails with pages of C errors, so it fails here with a sentence.
header=/usr/include/rocksdb/version.h
[ -f "$header" ] || header=/usr/local/include/rocksdb/version.h
major=$(sed -n 's/^#define ROCKSDB_MAJOR \([0-9]*\).*/\1/p' "$header")
minor=$(sed -n 's/^#define ROCKSDB_MINOR \([0-9]*\).*/\1/p' "$header")
case "$major.$minor" in
7.8) ;;
8.* | 9.*)
	say "RocksDB $major.$minor is installed. The default binding, grocksdb v1.7.14, is for RocksDB 7.8 (Debian 12)."
	say "The line for this system is grocksdb $([ "$major" = 8 ] && echo v1.8.15 || echo v1.9.8): run 'make rocksdb-line' once, which points go.mod of sequencer-storage at it; docs/build.md explains."
	# A tree that was pointed at the other line already may go on.
	here=$(dirname "$0")/../..
	grep -q "grocksdb v1\.$major\." "$here/services/sequencer-storage/go.mod" 2>/dev/null || [ "${1:-}" = --any ] || exit 1
	;;
*)
	say "RocksDB $major.$minor is installed; Lockstep builds against 7.8 (Debian 12) and, by 'make rocksdb-line', 8.x and 9.x."
	say "Install one of those, or see docs/build.md."
	[ "${1:-}" = --any ] || exit 1
	;;
esac
