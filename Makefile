# Few verbs; `make help` lists them. Everything that is built or fetched lands in
# $(KUBEBYON_CACHE), outside the clone, so that a fresh clone starts warm.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

export KUBEBYON_CACHE ?= $(HOME)/.cache/kubebyon
export CARGO_TARGET_DIR ?= $(KUBEBYON_CACHE)/target
export PATH := $(HOME)/.cargo/bin:$(KUBEBYON_CACHE)/tools/bin:$(PATH)

TESTBED := $(CARGO_TARGET_DIR)/debug/testbed
export KUBEBYON_TESTBED := $(TESTBED)

.PHONY: help
help: ## List the verbs.
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: bootstrap
bootstrap: ## Install the toolchains that are missing (Rust, Go, a C compiler).
	@scripts/bootstrap

.PHONY: testbed
testbed: bootstrap
	@cargo build --locked --quiet -p kubebyon-testbed

.PHONY: test
test: testbed ## Run the unit and integration tests against a real api-server.
	@cargo build --locked --quiet -p kubebyon-operator
	@scripts/step "tests" $(TESTBED) run --profile api --with gateway-api,cert-manager -- cargo test --locked --workspace --no-fail-fast

.PHONY: lint
lint: bootstrap ## Check formatting, warnings, generated files, licences.
	@scripts/lint

.PHONY: crds
crds: bootstrap ## Write crds/ and the chart's copy from the types.
	@cargo run --locked --quiet -p kubebyon-api --bin crdgen

.PHONY: smoke
smoke: testbed ## Start a real node and a real tenant on it, and end them (needs root).
	@scripts/step "node smoke" $(TESTBED) smoke

.PHONY: e2e
e2e: testbed ## Walk a tenant's whole life on a real node, public names through Envoy, and crash at every request (needs root).
	@cargo build --locked --quiet -p kubebyon-operator
	@KUBEBYON_JOURNEY=1 scripts/step "journey" cargo test --locked --quiet -p kubebyon-e2e --test journey -- --nocapture
	@KUBEBYON_JOURNEY=1 scripts/step "public names on a real Envoy" cargo test --locked --quiet -p kubebyon-e2e --test entrance -- --nocapture
	@KUBEBYON_CRASH_EVERY=1 scripts/step "a crash at every request" cargo test --locked --quiet -p kubebyon-e2e --test crash -- --nocapture

.PHONY: bench
bench: testbed ## Measure it beside the same work by hand and by Flux; writes docs/benchmarks.md (needs root; twenty minutes, and Flux is built first).
	@cargo build --locked --release --quiet -p kubebyon-operator
	@cargo build --locked --release --quiet -p kubebyon-e2e --bin bench
	@cargo build --locked --quiet -p kubebyon-e2e --bin chart-repository
	@scripts/step "bench" $(CARGO_TARGET_DIR)/release/bench \
		--operator $(CARGO_TARGET_DIR)/release/kubebyon-operator --output docs/benchmarks.md $(BENCH_FLAGS)

.PHONY: demo
demo: bootstrap ## Bring up a cluster of its own and show the main job on it (needs root).
	@scripts/demo up

.PHONY: demo-down
demo-down: ## Take away what `make demo` brought.
	@scripts/demo down
