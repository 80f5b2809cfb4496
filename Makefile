# How narwharf is built and tested. Only the Rust toolchain is assumed; `make test` fetches the rest.

# Outside the clone, so that many clones share what they compile. Override it to keep builds apart.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/narwharf
export CARGO_TARGET_DIR ?= $(CACHE)/target

# Compiled from crates.io where it is missing: some minutes, once.
CARGO_DENY := $(shell command -v cargo-deny 2>/dev/null || echo $(CACHE)/tools/bin/cargo-deny)
DENY_CHECKS := bans licenses sources

.PHONY: help test soak bench check tests otel deny advisories
.DEFAULT_GOAL := help

help:
	@echo "make test        what the tests need is installed, then everything is checked and tested"
	@echo "make soak        what takes too long for that: about an hour"
	@echo "make bench       what it costs beside nginx and Varnish: under ten minutes; docs/benchmarks.md explains"
	@echo "make check       formatting and lints only"
	@echo "make otel        lints and tests of the feature that no default build has"
	@echo "make deny        licences, banned crates and sources (installs cargo-deny when missing)"
	@echo "make advisories  known vulnerabilities (fetches the RustSec database)"

test:
	tests/prepare
	$(MAKE) --no-print-directory check
	@if $(MAKE) --no-print-directory --silent $(CARGO_DENY); then $(MAKE) --no-print-directory deny; \
	else echo "cargo-deny is not to be had here: licences, bans and sources stay unchecked"; fi
	$(MAKE) --no-print-directory tests

# Tests that are ignored elsewhere, one after the other: each wants the machine for itself. The one
# with a time to keep is about the optimised build.
soak:
	tests/prepare
	cargo nextest run --locked --run-ignored only --test-threads 1 -E 'not test(/^giant::/)'
	cargo nextest run --locked --run-ignored only --release -E 'test(/^giant::/)'

bench:
	benches/prepare
	cargo bench --locked --bench gateway

check:
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

# Doc tests first: nextest does not run them, and the totals belong on the last lines.
tests:
	cargo test --doc --locked
	@if command -v cargo-nextest >/dev/null 2>&1; then \
		echo "cargo nextest run --locked"; cargo nextest run --locked; \
	else \
		echo "cargo test --locked --all-targets"; cargo test --locked --all-targets; \
	fi

# Apart from `check`, since it compiles all of narwharf a second time.
otel:
	cargo clippy --all-targets --features otel --locked -- -D warnings
	cargo test --features otel --locked --test observe otel::

deny: $(CARGO_DENY)
	$(CARGO_DENY) --locked check $(DENY_CHECKS)

advisories: $(CARGO_DENY)
	$(CARGO_DENY) --locked check advisories

$(CACHE)/tools/bin/cargo-deny:
	CARGO_TARGET_DIR=$(CACHE)/tools/target cargo install cargo-deny --debug --locked --root $(CACHE)/tools
