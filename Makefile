# Lockstep's commands. `make help` lists them; every command is printed before it runs.

.DEFAULT_GOAL := help

# Every module of the workspace, leaves first.
MODULES := api libs/message-common libs/rsocket libs/service-kit \
           services/consumer-state services/delivery-gateway services/ingest services/sequencer-storage \
           sdk tools e2e
SERVICES := ingest sequencer-storage delivery-gateway consumer-state

VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)
TESTFLAGS ?=
# Where a test run leaves its data: gone afterwards.
DEMO_DATA ?= $(shell mktemp -d /tmp/lockstep-demo.XXXXXX)

export CGO_ENABLED := 1
# The workspace with the grocksdb release for the RocksDB installed here; `make setup` writes it (docs/build.md).
export GOWORK := $(CURDIR)/bin/go.work

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install the compiler and RocksDB where they are missing, and choose the binding for that RocksDB
	sh tools/setup/system-packages.sh
	sh tools/setup/rocksdb-line.sh

.PHONY: build
build: setup ## Put every binary into bin/
	go build -ldflags '$(LDFLAGS)' -o bin/ ./tools/cmd/lockstep $(foreach s,$(SERVICES),./services/$(s)/cmd/$(s))

.PHONY: run
run: build ## Run everything in one process on fresh data, with a live demo feed
	./bin/lockstep dev --demo --data $(DEMO_DATA)

.PHONY: test
test: build ## Run all tests (no Docker, no network once modules are downloaded)
	LOCKSTEP_BIN=$(CURDIR)/bin go test $(TESTFLAGS) $(addprefix ./,$(addsuffix /...,$(MODULES)))

.PHONY: race
race: build ## Run the tests of the concurrent rooms under the race detector
	LOCKSTEP_BIN=$(CURDIR)/bin go test -race -short $(TESTFLAGS) $(addprefix ./,$(addsuffix /...,$(filter-out api e2e,$(MODULES))))

.PHONY: lint
lint: tools ## gofmt, go vet and golangci-lint, each module by itself without the workspace
	test -z "$$(gofmt -l $(filter-out api,$(MODULES)) | tee /dev/stderr)"
	set -e; for m in $(MODULES); do (cd $$m && echo "$$m: go vet, GOWORK=off" && GOWORK=off go vet ./...); done
	set -e; for m in $(filter-out api,$(MODULES)); do (cd $$m && echo "$$m: golangci-lint" && GOWORK=off $(CURDIR)/bin/devtools/golangci-lint run --config $(CURDIR)/.golangci.yml ./...); done

.PHONY: tools
tools: ## Build the generators and linters into bin/devtools (a few minutes the first time)
	mkdir -p bin/devtools
	cd tools/devtools && GOWORK=off go build -o ../../bin/devtools/ github.com/bufbuild/buf/cmd/buf github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	cd tools/devtools/protogen && GOWORK=off go build -o ../../../bin/devtools/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc

.PHONY: generate
generate: tools ## Write the Go code of api/ from its protobuf files
	cd api && PATH="$(CURDIR)/bin/devtools:$$PATH" buf generate

.PHONY: settings
settings: setup ## Write docs/settings.md from the flags, and docs/metrics.md from the services
	go test ./tools/settingscheck -run Page -update

.PHONY: check-generated
check-generated: tools ## Fail when the committed generated code has drifted; lint the protobuf files
	cd api && PATH="$(CURDIR)/bin/devtools:$$PATH" buf lint
	sh tools/setup/check-generated.sh

.PHONY: bench
bench: build ## Run the benchmarks
	go test -run '^$$' -bench . $(addprefix ./,$(addsuffix /...,$(filter-out api e2e,$(MODULES))))
	cd libs/rsocket/bench && GOWORK=off go test -run '^$$' -bench .
	LOCKSTEP_BIN=$(CURDIR)/bin go test ./e2e/bench -run '^$$' -bench . -benchtime 1x -count 3 -timeout 60m

.PHONY: bench-peers
bench-peers: build ## Run the same load through NATS JetStream and Lockstep in turn; prints the ratios
	LOCKSTEP_BIN=$(CURDIR)/bin go test ./e2e/bench -run '^$$' -bench '^BenchmarkBeside' -benchtime 3x -count 3 -timeout 30m

.PHONY: e2e
e2e: build ## Run the end-to-end scenarios only
	LOCKSTEP_BIN=$(CURDIR)/bin go test $(TESTFLAGS) ./e2e/...

.PHONY: e2e-compose
e2e-compose: build ## Build the images, run docker compose up, walk a record through (skips without an engine)
	bash e2e/compose/run.sh

.PHONY: interop
interop: setup ## Try the RSocket engine against rsocket-js (skips without npm)
	bash e2e/interop/run.sh

.PHONY: up
up: ## docker compose up
	docker compose up --build

.PHONY: clean
clean: ## Remove bin/
	rm -rf bin

.PHONY: ci
ci: check-generated lint race interop e2e-compose test ## What CI runs; the tests last
