# Every target needs Go only; `make test` and `make accept` install what else they need, see deploy/dev/with-services.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
LINT := go tool -modfile=deploy/dev/lint/go.mod golangci-lint
SCRIPTS := deploy/dev/with-services deploy/dev/with-python deploy/dev/check-python conformance/run .ci/run
IMAGES := Dockerfile-client Dockerfile-server docker-compose.yml

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## a small network in one process: DEMO_HTTP=127.0.0.1:8080 sets the address, DEMO_SECONDS=20 ends it
	@mkdir -p bin
	@echo "building the demo; the first build compiles go-ethereum and SQLite and takes a few minutes" >&2
	@CGO_ENABLED=0 go build -trimpath -o bin/demo ./cmd/demo
	@exec bin/demo

# SQLite is C translated to Go, with no Go in it to race: instrumented it would take a third of the tests' time.
RACE := -race -gcflags=modernc.org/...=-race=false

.PHONY: test
test: ## every test under the race detector, against real services of its own (installs them on Debian as root)
	deploy/dev/with-services --kafka go test $(RACE) -timeout 12m $(TESTFLAGS) ./...
	deploy/dev/with-services deploy/dev/with-python python -m pytest python

.PHONY: conformance
conformance: build ## our implementations and the examples of docs/WIRE.md against the wire protocol (half a minute)
	conformance/run

.PHONY: accept
accept: ## the long tests: outages by the minute, many kills, crowds, much data
	FIRSTSEEN_ACCEPT=1 deploy/dev/with-services --kafka go test -timeout 60m -count 1 $(TESTFLAGS) ./test/... ./server ./internal/spool ./internal/store
	FIRSTSEEN_ACCEPT=1 deploy/dev/with-services deploy/dev/with-python python -m pytest python/tests/test_fleet.py

.PHONY: check
check: lint ## what a commit must pass: format, vet, linters, module files, layers and the short tests
	go vet ./...
	go mod tidy -diff
	go test -short -timeout 3m ./...

.PHONY: lint
lint: ## formatters and linters only; the first run builds golangci-lint, which takes minutes
	@unformatted=$$(gofmt -l .); \
		if [[ -n $$unformatted ]]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); \
		else echo "shellcheck is not installed: scripts unchecked (apt-get install shellcheck)" >&2; fi
	go -C deploy/dev/images run . $(addprefix $(CURDIR)/,$(IMAGES))
	$(LINT) run
	deploy/dev/check-python

.PHONY: bench
bench: ## ingest, queries of a million blocks, replicas, live readers, beside ceilings (4 minutes each), then the benchmarks
	deploy/dev/with-services go run ./bench $(BENCHFLAGS)
	deploy/dev/with-services go run ./bench/queries $(QUERYFLAGS)
	deploy/dev/with-services --kafka go run ./bench/replica $(REPLICAFLAGS)
	go -C bench/fanout run . $(FANOUTFLAGS)
	deploy/dev/with-services go test -run '^$$' -bench . -benchmem -timeout 20m $(TESTFLAGS) ./...

.PHONY: build
build: ## the production binary, static and stripped, into bin/firstseen
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/firstseen ./cmd/firstseen

.PHONY: fmt
fmt: ## gofmt everything
	gofmt -w .
