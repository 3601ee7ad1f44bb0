# Everything sets up what it needs by itself: .venv, the Rust core, system packages only where unavoidable.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
CORE := python/trimaran/_core.abi3.so
RUST_SOURCES := $(shell find crates -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock

.PHONY: run test rust-test python-test lint types fuzz bench bench-quick bench-databases compat leaks docs clean help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

run: $(CORE) ## the flight-booking example behind the whole of Trimaran, on http://127.0.0.1:8000/
	@cd examples/skyways && exec env PATH="$(CURDIR)/$(BIN):$$PATH" trimaran run

test: rust-test python-test ## every test, against real processes, sockets and PostgreSQL

rust-test: $(VENV)/ready
	@echo "== Rust tests"
	cargo test --quiet -p trimaran-dataplane

python-test: $(CORE)
	@echo "== Python tests"
	$(BIN)/python -m pytest -q

lint: $(CORE) ## formatting and lint of both languages
	$(BIN)/ruff check .
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings

types: $(CORE) ## mypy, and the stub of the Rust core against its build
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest trimaran._core --concise

fuzz: $(VENV)/ready ## the parsers, for FUZZ_SECONDS (an hour), guided by coverage; needs a C++ compiler
	$(BIN)/python crates/fuzz/run.py

bench: $(CORE) $(VENV)/peers ## us against HAProxy, nginx, Envoy, Caddy and Traefik: about 17 minutes (BENCH="--rows tls")
	$(BIN)/python -m benchmarks.servers $(BENCH)

bench-quick: $(CORE) $(VENV)/peers ## a small choice of the same, about two minutes
	$(BIN)/python -m benchmarks.servers --quick $(BENCH)

bench-databases: $(CORE) ## the PostgreSQL gateway against PgBouncer, by pgbench: about a quarter of an hour (BENCH=--quick)
	$(BIN)/python -m benchmarks.databases.pgbench $(BENCH)

compat: $(CORE) ## other projects' tests and drivers of four languages, through the gateway and directly: about an hour (COMPAT=drivers)
	$(BIN)/python -m tests.compatibility $(COMPAT)

leaks: $(CORE) ## every way to change a session, in every context: about half an hour
	LEAKS=all $(BIN)/python -m pytest -q --timeout 600 tests/databases/leaks

docs: $(CORE) ## the pages that are made from the declarations
	$(BIN)/python -m trimaran.config.reference docs

clean: ## removes everything that was built, and nothing else
	rm -rf $(VENV) target $(CORE) .mypy_cache .ruff_cache .pytest_cache

$(VENV)/ready: pyproject.toml
	@command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup, then run this again"; exit 1; }
	@echo "== Python environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (PYTHON=... names one)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

$(VENV)/peers: $(VENV)/ready
	@echo "== Peers of the benchmarks"
	@$(BIN)/python -m pip install --quiet --group bench || echo "Peers that could not be installed are left out"
	@touch $@

$(CORE): $(VENV)/ready $(RUST_SOURCES)
	@echo "== Rust core (about a minute the first time)"
	PIP_QUIET=1 VIRTUAL_ENV=$(CURDIR)/$(VENV) PATH="$(CURDIR)/$(BIN):$$PATH" maturin develop --quiet --release --extras postgres
	@touch $@
