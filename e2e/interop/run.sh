#!/usr/bin/env bash
# Tries the RSocket engine against rsocket-js over TCP and WebSocket. Skips, and says so, where npm
# or its packages cannot be had; a failed check fails.
set -euo pipefail
cd "$(dirname "$0")"

skip() { echo "interop: skipped: $1"; exit 0; }
command -v node >/dev/null || skip "node is not installed"
command -v npm >/dev/null || skip "npm is not installed"
if [ ! -d node_modules ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
	echo "+ npm ci"
	npm ci --loglevel=error || skip "the npm packages cannot be installed"
fi

work=$(mktemp -d)
trap 'exec 3>&- 2>/dev/null || true; rm -rf "$work"' EXIT
echo "+ go build ./libs/rsocket/internal/interopserver"
(cd ../../libs/rsocket && go build -o "$work/server" ./internal/interopserver)

mkfifo "$work/stdin"
"$work/server" <"$work/stdin" >"$work/ports" & # ends when its standard input does
exec 3>"$work/stdin"
for _ in $(seq 100); do
	[ "$(wc -l <"$work/ports")" -ge 2 ] && break
	sleep 0.1
done
tcp=$(awk '$1 == "tcp" { print $2 }' "$work/ports")
ws=$(awk '$1 == "ws" { print $2 }' "$work/ports")
[ -n "$tcp" ] && [ -n "$ws" ] || { echo "interop: the server did not start"; exit 1; }
echo "+ node interop.js $tcp $ws"
node interop.js "$tcp" "$ws"
