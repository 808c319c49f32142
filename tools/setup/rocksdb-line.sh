#!/bin/sh
# Points services/sequencer-storage (and the modules that contain it) at the grocksdb line for the RocksDB installed here.
set -eu
sh "$(dirname "$0")/system-packages.sh" --any
header=/usr/include/rocksdb/version.h
[ -f "$header" ] || header=/usr/local/include/rocksdb/version.h
major=$(sed -n 's/^#define ROCKSDB_MAJOR \([0-9]*\).*/\1/p' "$header")
case "$major" in
7) line=v1.7.14 ;;
8) line=v1.8.15 ;;
9) line=v1.9.8 ;;
*) echo "no grocksdb line is known for RocksDB $major" >&2; exit 1 ;;
esac
cd "$(dirname "$0")/../.."
for module in services/sequencer-storage tools e2e; do
	if grep -q linxGnu/grocksdb "$module/go.mod"; then
		echo "$module: grocksdb $line"
		(cd "$module" && GOWORK=off go get "github.com/linxGnu/grocksdb@$line")
	fi
done
