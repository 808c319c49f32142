#!/bin/sh
# Fails when the generated code under api/ is not what its protobuf files give.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
cp -R "$root/api/proto" "$root/api/buf.yaml" "$root/api/buf.gen.yaml" "$fresh/"
(cd "$fresh" && PATH="$root/bin/devtools:$PATH" buf generate)
for made in $(cd "$fresh" && find . -name '*.pb.go'); do
	if ! cmp -s "$fresh/$made" "$root/api/$made"; then
		echo "api/${made#./} is not what api/proto gives: run 'make generate' and commit the result" >&2
		drift=1
	fi
done
for kept in $(cd "$root/api" && find . -name '*.pb.go'); do
	[ -f "$fresh/$kept" ] || { echo "api/${kept#./} has no protobuf file any more: remove it" >&2; drift=1; }
done
[ -z "${drift:-}" ]
