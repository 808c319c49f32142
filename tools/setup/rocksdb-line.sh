#!/bin/sh
# Writes bin/go.work: the workspace of go.work with the grocksdb release that suits the RocksDB installed here. The Makefile builds and
# tests with it, so that no committed file depends on the system. Its sums are those of go.work.sum.
#
# Each release of the binding compiles against one line of RocksDB only; with another it fails with pages of C errors, so here it fails
# with a sentence. A line is listed when the tests ran on it (docs/build.md).
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
header=${ROCKSDB_HEADER:-/usr/include/rocksdb/version.h}
[ -f "$header" ] || header=/usr/local/include/rocksdb/version.h
number() { sed -n "s/^#define ROCKSDB_$1 \([0-9]*\).*/\1/p" "$header"; }
version=$(number MAJOR).$(number MINOR)

case "$version" in
7.8) line=v1.7.14 ;;  # Debian 12
8.9) line=v1.8.12 ;;  # Ubuntu 24.04
9.10) line=v1.9.8 ;;  # Debian 13, Ubuntu 25.04 and 25.10
9.11) line=v1.9.9 ;;  # Debian testing, Ubuntu 26.04
*)
	echo "RocksDB $version is installed ($header); Lockstep builds with 7.8, 8.9, 9.10 and 9.11. Install one of these, or build where Debian 12, 13 or Ubuntu 24.04 and newer have it: docs/build.md." >&2
	exit 1
	;;
esac

mkdir -p "$root/bin"
fresh=$(mktemp "$root/bin/go.work.XXXXXX")
trap 'rm -f "$fresh"' EXIT
{
	echo "// Made by tools/setup/rocksdb-line.sh for RocksDB $version; do not edit."
	sed 's#^\([[:space:]]*\)\./#\1../#' "$root/go.work"
	printf '\nreplace github.com/linxGnu/grocksdb => github.com/linxGnu/grocksdb %s\n' "$line"
} >"$fresh"
if ! cmp -s "$fresh" "$root/bin/go.work"; then
	echo "RocksDB $version: building with grocksdb $line"
	chmod 644 "$fresh" && mv "$fresh" "$root/bin/go.work"
fi
cp "$root/go.work.sum" "$root/bin/go.work.sum"
