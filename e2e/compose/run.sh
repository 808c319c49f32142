#!/usr/bin/env bash
# Brings the separate services up with docker compose and walks records through them: publish, replica, verify, tail; without NATS; and
# again after the sequencer was killed. Leaves nothing behind but images. Needs bin/lockstep (make build).
#
# Where no engine can run, or in CI none runs already, it says so and exits 0. LOCKSTEP_E2E_BUILD=no uses the images that are there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say() { printf 'e2e-compose: %s\n' "$*"; }
skip() { say "SKIPPED: $*"; exit 0; }
fail() { say "FAILED: $*" >&2; exit 1; }

work=$(mktemp -d)
engine="" # the engine's process, when it is ours
up=""
finish() {
    code=$?
    trap - EXIT INT TERM
    if [[ -n $up ]]; then
        if ((code != 0)); then docker compose ps -a || true; docker compose logs --tail 20 || true; fi
        docker compose down --volumes --timeout 30 >"$work/down.log" 2>&1 || cat "$work/down.log" >&2
    fi
    if [[ -n $engine ]]; then kill "$engine" 2>/dev/null && wait "$engine" || true; fi
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# An engine: the running one, else our own for the length of this run.
command -v docker >/dev/null || skip "there is no docker command (Debian: apt-get install docker.io)"
docker compose version >/dev/null 2>&1 || skip "docker has no compose v2 plugin"
if ! docker info >/dev/null 2>&1; then
    [[ ${CI:-} != true ]] || skip "no engine is running; CI does not start one of its own"
    [[ $(id -u) == 0 ]] && command -v dockerd >/dev/null || skip "no engine answers, and none can be started by this user"
    dockerd >"$work/dockerd.log" 2>&1 &
    engine=$!
    for _ in $(seq 60); do
        if docker info >/dev/null 2>&1; then break; fi
        kill -0 "$engine" 2>/dev/null || skip "no engine can run here: $(tail -n 1 "$work/dockerd.log")"
        sleep 0.5
    done
    docker info >/dev/null 2>&1 || skip "the engine did not answer within 30 s"
fi
[[ -x bin/lockstep ]] || fail "bin/lockstep is missing: make build"

for image in debian:bookworm-slim golang:1.26-bookworm redis:7 nats:2; do
    if docker image inspect "$image" >/dev/null 2>&1; then continue; fi
    if ! timeout 300 docker pull -q "$image" 2>"$work/pull.log"; then
        say "$image cannot be pulled; making stand-ins"
        bash e2e/compose/base-images.sh
        break
    fi
done

# A project and ports of our own, so that a house already running is not touched.
export COMPOSE_PROJECT_NAME="lockstep-e2e-$$" COMPOSE_PROGRESS=plain
export LOCKSTEP_BIND=127.0.0.1 LOCKSTEP_PORT_INGEST=17400 LOCKSTEP_PORT_INGEST_HTTP=17401
export LOCKSTEP_PORT_GATEWAY=17410 LOCKSTEP_PORT_GATEWAY_WEBSOCKET=17411 LOCKSTEP_PORT_CONSUMER_STATE=17420
export LOCKSTEP_INGEST=127.0.0.1:17400 LOCKSTEP_GATEWAY=tcp://127.0.0.1:17410 LOCKSTEP_CONSUMER_STATE=127.0.0.1:17420

if [[ ${LOCKSTEP_E2E_BUILD:-yes} != no ]]; then
    say "building the images"
    if ! docker buildx version >/dev/null 2>&1; then export DOCKER_BUILDKIT=0; fi
    # One after the other: the first builds all services, the others take its result.
    for service in ingest sequencer-storage delivery-gateway consumer-state; do
        docker compose build "$service" >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" >&2; fail "the image of $service"; }
    done
fi

say "docker compose up"
up=yes
docker compose up -d --wait --wait-timeout 180 --no-build >"$work/up.log" 2>&1 || { tail -n 20 "$work/up.log" >&2; fail "not healthy within 180 s"; }

# lines FROM TO VALUE: one JSON object per line.
lines() { for ((i = $1; i < $2; i++)); do printf '{"id":"k%04d","value":"%s","n":%d}\n' "$i" "$3" "$i"; done; }
rows() { timeout 60 bin/lockstep tail things --from 1 --no-follow --json | wc -l; }
# same STEP N: a replica at the tail is proven equal, and the log holds exactly N records.
same() {
    timeout 120 bin/lockstep replica things "$work/things.db" --once >"$work/replica.log" 2>&1 || { cat "$work/replica.log" >&2; fail "$1: replica"; }
    timeout 60 bin/lockstep verify things "$work/things.db" >"$work/verify.log" 2>&1 || { cat "$work/verify.log" >&2; fail "$1: verify"; }
    found=$(rows) || fail "$1: tail"
    [[ $found == "$2" ]] || fail "$1: the log holds $found records, not $2"
    say "ok: $1: $2 records, replica proven equal"
}
publish() { timeout 120 bin/lockstep publish things - --key id >"$work/publish.log" 2>&1 || { cat "$work/publish.log" >&2; fail "publish"; }; }

for service in ingest sequencer-storage delivery-gateway consumer-state; do
    user=$(docker compose exec -T "$service" id -u)
    [[ $user != 0 ]] || fail "$service runs as root"
done
say "ok: every container is healthy, every service runs without root"

bin/lockstep stream create things >/dev/null
lines 0 1000 first | publish
same "publish and follow" 1000

curl -sS --fail-with-body --max-time 10 -H 'Content-Type: application/x-ndjson' --data-binary '{"key":"k0000","value":{"other":true}}' \
    "http://127.0.0.1:$LOCKSTEP_PORT_INGEST_HTTP/v1/streams/things/records" >"$work/http.log" 2>&1 || { cat "$work/http.log" >&2; fail "publish over HTTP"; }
same "publish over HTTP" 1001

# A consumer that follows while NATS goes: what comes later reaches it by polling.
timeout 120 bin/lockstep tail things --from 1002 --count 500 --json >"$work/tail.log" 2>"$work/tail.err" &
tail=$!
docker compose stop -t 5 nats >/dev/null 2>&1
lines 500 1000 second | publish
wait "$tail" || { cat "$work/tail.err" >&2; fail "a tail without NATS"; }
[[ $(wc -l <"$work/tail.log") == 500 ]] || fail "a tail without NATS gave $(wc -l <"$work/tail.log") records, not 500"
same "NATS stopped" 1501
docker compose start nats >/dev/null 2>&1

# What was acknowledged outlives the process.
docker compose kill -s SIGKILL sequencer-storage >/dev/null 2>&1
docker compose up -d --wait --wait-timeout 120 --no-build >"$work/up.log" 2>&1 || { tail -n 20 "$work/up.log" >&2; fail "not healthy again after a kill"; }
lines 0 100 third | publish
same "sequencer-storage killed" 1601

# New containers on the same volumes.
docker compose down --timeout 30 >/dev/null 2>&1
docker compose run --rm --no-deps sequencer-storage check /data >"$work/check.log" 2>&1 || { cat "$work/check.log" >&2; fail "check of the stopped data directory"; }
say "ok: check of the stopped data directory"
docker compose up -d --wait --wait-timeout 180 --no-build >"$work/up.log" 2>&1 || { tail -n 20 "$work/up.log" >&2; fail "not healthy on volumes that hold data"; }
same "containers made anew" 1601
say "passed"
