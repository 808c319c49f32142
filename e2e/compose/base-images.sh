#!/usr/bin/env bash
# Makes stand-ins for the public base images, under their public names, on a machine whose engine reaches no image registry.
#
#   debian:bookworm-slim   the distribution's minimal system (debootstrap)
#   golang:1.26-bookworm   that, the C compilers and this machine's Go 1.26
#   redis:7, nats:2        that and the server
#
# They carry this machine's package sources and certificate authorities, so that `apt-get` and `go` work inside as they do outside.
# A name that already exists is left alone. Needs root, debootstrap, and Go 1.26; about two minutes.
set -euo pipefail

say() { printf 'base-images: %s\n' "$*"; }
have() { docker image inspect "$1" >/dev/null 2>&1; }
export DOCKER_BUILDKIT=0 # the classic builder is part of every engine; it never asks a registry for a name it has

[[ $(id -u) == 0 ]] || { say "only root can make base images here (debootstrap); pull them where a registry can be reached" >&2; exit 1; }
command -v debootstrap >/dev/null || { say "debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! have debian:bookworm-slim; then
    say "debian:bookworm-slim"
    debootstrap --variant=minbase bookworm "$work/root" >"$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }
    rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
    # The machine's apt settings, its sources when it is a bookworm too, and its certificates.
    cp -a /etc/apt/apt.conf.d/. "$work/root/etc/apt/apt.conf.d/" 2>/dev/null || true
    if grep -q '^VERSION_CODENAME=bookworm' /etc/os-release; then
        rm -f "$work/root/etc/apt/sources.list"
        for source in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
            if [[ -e $source ]]; then cp "$source" "$work/root${source}"; fi
        done
    fi
    install -d "$work/root/etc/ssl/certs" "$work/root/usr/local/share/ca-certificates"
    cp -L /etc/ssl/certs/ca-certificates.crt "$work/root/etc/ssl/certs/ca-certificates.crt" 2>/dev/null || true
    cp -L /usr/local/share/ca-certificates/*.crt "$work/root/usr/local/share/ca-certificates/" 2>/dev/null || true
    tar -C "$work/root" --numeric-owner -c . | docker import --change 'CMD ["bash"]' - debian:bookworm-slim >/dev/null
    rm -rf "$work/root"
fi

if ! have golang:1.26-bookworm; then
    say "golang:1.26-bookworm"
    go=${GOROOT:-$(GOTOOLCHAIN=local go env GOROOT)}
    grep -q '^go1\.26' "$go/VERSION" || { say "$go is not Go 1.26" >&2; exit 1; }
    docker build -q -t golang:1.26-bookworm -f - "$go" >/dev/null <<'DOCKERFILE'
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates gcc g++ git libc6-dev make pkg-config && rm -rf /var/lib/apt/lists/*
COPY . /usr/local/go
ENV GOPATH=/go GOTOOLCHAIN=local PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /go
DOCKERFILE
fi

if ! have redis:7; then
    say "redis:7"
    docker build -q -t redis:7 - >/dev/null <<'DOCKERFILE'
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/* && install -d -o 999 -g 999 /data
WORKDIR /data
VOLUME /data
EXPOSE 6379
CMD ["redis-server", "--protected-mode", "no"]
DOCKERFILE
fi

if ! have nats:2; then
    say "nats:2"
    docker build -q -t nats:2 - >/dev/null <<'DOCKERFILE'
FROM golang:1.26-bookworm AS build
RUN CGO_ENABLED=0 GOBIN=/out go install github.com/nats-io/nats-server/v2@v2.15.2
FROM scratch
COPY --from=build /out/nats-server /nats-server
EXPOSE 4222 6222 8222
ENTRYPOINT ["/nats-server"]
CMD ["--port", "4222", "--http_port", "8222"]
DOCKERFILE
fi
