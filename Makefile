# `make` alone lists the recipes. CI runs `make test`, which is everything.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build run test check lint sbom tools clients agents peers packages bench-packages gen golden bench bench-handshakes \
  bench-instructions bench-balance bench-faults bench-overload bench-changes bench-quota fuzz e2e e2e-long image charts \
  release-version push-image push-index push-charts sign

# The cache keys of tests/tools hash files in the order of their names.
export LC_ALL := C
# Where Debian has nginx and HAProxy, and users have no path to.
export PATH := $(PATH):/usr/sbin

# The quickstart's ports; the addresses are the programs' own defaults.
ADMIN := http://127.0.0.1:8081

help: ## list the recipes
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## release build of tundish, tundish-operator, tundish-proxy and foundry-sim
	cargo build --release --bins
	@ls -l target/release/{tundish,tundish-operator,tundish-proxy,foundry-sim}

run: ## gateway and simulated Foundry on this machine, with calls to try; Ctrl-C ends both
	cargo build --release -p cli -p tests-foundry
	@command -v curl >/dev/null || { echo "curl is needed: apt-get install curl" >&2; exit 1; }
	@trap 'kill $$(jobs -p) 2>/dev/null || true; wait' EXIT; trap 'exit 0' INT TERM; \
	target/release/foundry-sim & \
	target/release/tundish run --manifests examples/quickstart & gateway=$$!; \
	until curl -sf -o /dev/null $(ADMIN)/readyz; do \
	  kill -0 $$gateway 2>/dev/null || { wait $$gateway; exit 1; }; sleep 0.1; \
	done; \
	echo; cat examples/quickstart/curl.txt; echo; \
	wait $$gateway

# Binaries and tests are built by one command: apart, cargo would build their dependencies twice, with
# and without the features that only tests ask for.
test: packages tools clients lint ## everything: lints, unit, integration and end-to-end tests on real parts
	cargo build --workspace --bins --tests
	cargo test --workspace --no-fail-fast

check: lint ## what needs no tools: format, lints, tidy, unit and integration tests
	cargo build --bins --tests
	cargo test

# Warnings are errors here and nowhere else: clippy reports the compiler's as well, for every target,
# and a flag that changes every build would make a plain `cargo build` start again from nothing.
lint: ## format, dependencies (cargo-deny) and clippy, where every warning is an error
	cargo fmt --all --check
	@tests/tools/deny.sh
	cargo clippy --workspace --all-targets --features tests-e2e/agents -- -D warnings

tools: ## build the API server, etcd, controllers, kwok and helm into the cache (ten minutes, once)
	@tests/tools/build.sh

clients: ## install the official client packages into the cache
	@tests/tools/clients.sh

agents: ## install the coding agents that e2e-long runs into the cache (850 MB)
	@tests/tools/agents.sh

peers: ## install the gateways that benchmarks compare with into the cache
	@tests/tools/peers.sh

packages: ## install the missing system packages, or name the command
	@tests/tools/packages.sh

bench-packages: ## the same for the programs that benchmarks compare with and count by
	@tests/tools/packages.sh bench

gen: ## write what is generated: the CRDs, their copy in the chart, the pages of errors, metrics, the log and the surface
	cargo run --bin crdgen -- --out crds/yaml
	cp crds/yaml/*.yaml charts/tundish-crds/files/
	UPDATE_EXPECT=1 cargo test -p proxy-admin -p proxy-api -p proxy-gateway -p proxy-sync -p operator-publish \
	  -p operator-controller -p cli --lib is_current
	UPDATE_EXPECT=1 cargo test -p tests-tidy --test chart is_current

sbom: ## write what the binaries are made of, as CycloneDX, to target/tundish.cdx.json
	cargo run --quiet -p tests-sbom >target/tundish.cdx.json
	@ls -l target/tundish.cdx.json

golden: ## accept the present output as the expected one
	UPDATE_EXPECT=1 cargo test -p tests-golden

bench bench-faults bench-overload bench-handshakes bench-instructions: export TUNDISH_TEST_PROFILE := release
bench: bench-packages ## cost of requests and events beside other proxies, into docs/benchmarks.md (15 minutes; QUICK=1: 3)
	cargo build --release -p cli -p tests-bench
	target/release/bench requests $(if $(QUICK),--quick)

bench-faults: ## what callers notice of each kind of failure beside a backend that works (12 minutes)
	cargo build --release -p cli -p tests-bench
	target/release/bench faults

bench-balance: ## the balancer in simulated time, into docs/balancing.svg (a minute)
	cargo run --release -p tests-bench --bin bench -- balance

bench-overload: ## more requests than CPU time: answers in time, refusals, and how soon all is well again (3 minutes)
	cargo build --release -p cli -p tests-bench
	target/release/bench overload

bench-handshakes: bench-packages ## CPU of TLS handshakes of clients, full and resumed, beside nginx (2 minutes)
	cargo build --release -p cli -p tests-bench
	target/release/bench handshakes

bench-instructions: bench-packages ## instructions and calls per request; fails if they grew (ARGS=--rebase accepts them)
	cargo build --release -p cli -p tests-bench
	target/release/bench instructions $(ARGS)

bench-changes: export TUNDISH_TEST_PROFILE := release
bench-changes: tools ## how fast a change reaches the proxies, and the bounds of quotas over many seeds
	cargo build --release --bins
	cargo run --release -p tests-bench -- scale
	cargo run --release -p tests-bench -- propagation
	cargo run --release -p tests-bench -- simulation

# A machine that cannot install the peers still measures the rest.
bench-quota: export TUNDISH_TEST_PROFILE := release
bench-quota: packages ## measure what quotas admit and cost, into docs/quota-bounds.md (12 minutes; QUICK=1: 2)
	@tests/tools/peers.sh >/dev/null || echo "[bench-quota] without LiteLLM" >&2
	cargo build --release --bins
	cargo run --release -p tests-bench -- quota $(if $(QUICK),--quick)

# Needs the toolchain `nightly`; cargo-fuzz is built once, beside the tools.
fuzz: ## fuzz what reads bytes of others, a minute for each target
	@export PATH="$${TUNDISH_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/tundish}/cargo-fuzz/bin:$$PATH"; \
	command -v cargo-fuzz >/dev/null || cargo +nightly install cargo-fuzz --locked --version 0.13.2 \
	  --root "$${TUNDISH_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/tundish}/cargo-fuzz"; \
	cd tests/fuzz; for target in $$(cargo +nightly fuzz list --fuzz-dir .); do \
	  mkdir -p "corpus/$$target"; \
	  cargo +nightly fuzz run --fuzz-dir . "$$target" "corpus/$$target" "corpus-seeds/$$target" \
	    -- -max_total_time=60; done

e2e: tools clients packages ## only the end-to-end tests
	cargo build --workspace --bins
	cargo test -p tests-e2e

e2e-long: export TUNDISH_TEST_REQUESTS := 20000
e2e-long: export TUNDISH_TEST_OUTAGE_SECONDS := 60
e2e-long: tools clients agents packages ## coding agents; rolling restarts and outages under load, for longer (half an hour)
	cargo build --workspace --bins
	cargo test -p tests-e2e --features agents --test real_agents
	cargo test -p tests-e2e --test rolling
	cargo test -p tests-e2e --test cluster -- outages pairs

image: ## write the container image, as an OCI layout in target/image, and its bill of materials beside it
	cargo build --release -p cli -p operator -p proxy
	cargo run --quiet -p tests-image -- target/release target/image

# What a release is made of, below: .github/workflows/release.yaml calls these in order.
HELM ?= $(firstword $(wildcard $(or $(TUNDISH_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tundish)/tools/*/helm) helm)
RELEASE := $(shell sed -n 's/^version: //p' charts/tundish/Chart.yaml)

charts: ## pack both charts into target/charts
	$(HELM) package --destination target/charts charts/tundish-crds charts/tundish

release-version: ## fail unless VERSION is that of the crates and of both charts
	@for file in charts/tundish/Chart.yaml charts/tundish-crds/Chart.yaml; do \
	  grep -qx 'version: $(VERSION)' $$file && grep -qx 'appVersion: $(VERSION)' $$file || { \
	    echo "$$file is not of version $(VERSION)" >&2; exit 1; }; \
	done
	@grep -qx 'version = "$(VERSION)"' Cargo.toml || { echo "Cargo.toml is not of version $(VERSION)" >&2; exit 1; }

push-image: ## push target/image to REGISTRY, with SUFFIX behind the version
	skopeo copy oci:target/image:$(RELEASE) docker://$(REGISTRY)/tundish:$(RELEASE)$(SUFFIX)

push-index: ## make one image of those for both architectures
	docker buildx imagetools create --tag $(REGISTRY)/tundish:$(RELEASE) \
	  $(REGISTRY)/tundish:$(RELEASE)-amd64 $(REGISTRY)/tundish:$(RELEASE)-arm64

push-charts: ## push target/charts to REGISTRY/charts
	for chart in target/charts/*.tgz; do $(HELM) push $$chart oci://$(REGISTRY)/charts; done

sign: ## sign the image by its digest, with its bill of materials, and the charts
	@digest=$$(docker buildx imagetools inspect $(REGISTRY)/tundish:$(RELEASE) --format '{{.Manifest.Digest}}'); \
	cosign sign --yes --recursive $(REGISTRY)/tundish@$$digest; \
	cosign attest --yes --type cyclonedx --predicate target/image.cdx.json $(REGISTRY)/tundish@$$digest
	for chart in tundish tundish-crds; do cosign sign --yes $(REGISTRY)/charts/$$chart:$(RELEASE); done
