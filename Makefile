# p2pnode: what a developer types. `make help` lists it.
# Everything lands in .venv, .exv (ElectrumX), .bitcoind, tests/interop/node_modules and dist;
# nothing outside this folder.

SHELL := /bin/sh
BIN := .venv/bin
PIP := -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest

.PHONY: help venv demo check test soak wheel clean bitcoind electrumx jspeer bench
.DEFAULT_GOAL := help

help:
	@echo "make venv     the environment .venv with everything p2pnode runs on"
	@echo "make demo     a whole trade and a dispute between real processes on this machine"
	@echo "make check    format, lint, types, import directions"
	@echo "make test     the whole suite (ARGS='tests/unit -k draw' for a part)"
	@echo "make soak     the long runs: simulated networks of 1,000 and 10,000 nodes, ten demos"
	@echo "              (ARGS='--only sim' or '--only demos')"
	@echo "make bench    the DHT beside six others (ARGS='--only libtorrent'); takes ten minutes;"
	@echo "              BENCH=book or trade: the order book, the trade"
	@echo "make wheel    the wheel, in dist/"
	@echo "make clean    remove what make has made"

venv: .venv/.runtime

# The preflight names what is missing before anything is downloaded.
.venv/.runtime: requirements/lock.txt setup.cfg pyproject.toml
	@python=$$(PYTHON="$(PYTHON)" sh scripts/preflight.sh) || exit $$?; \
	[ -x $(BIN)/python ] || "$$python" -m venv .venv
	$(BIN)/python $(PIP) -r requirements/lock.txt
	$(BIN)/python $(PIP) --no-deps --config-settings editable_mode=compat -e .
	@touch $@

.venv/.dev: .venv/.runtime requirements/dev.txt
	$(BIN)/python $(PIP) -r requirements/dev.txt
	@touch $@

demo: .venv/.runtime
	$(BIN)/p2pnode demo $(ARGS)

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(PYTEST) tests/unit/test_house_layers.py

# Without a bitcoind the regtest tests skip, saying so; with CI set that is a failure.
bitcoind:
	@[ -x .bitcoind/bin/bitcoind ] || [ -n "$$P2PNODE_BITCOIND" ] || \
	sh scripts/get-bitcoind.sh .bitcoind || [ -z "$$CI" ]

electrumx: .venv/.runtime
	@[ -x .exv/.done ] || [ -n "$$P2PNODE_ELECTRUMX_PYTHON" ] || { \
	$(BIN)/python -m venv .exv && .exv/bin/python $(PIP) -r requirements/electrumx.txt && \
	touch .exv/.done && chmod +x .exv/.done; } || [ -z "$$CI" ]

# Without node the js-libp2p tests skip, saying so; with CI set that is a failure.
jspeer:
	@cd tests/interop && { [ node_modules/.package-lock.json -nt package-lock.json ] || \
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; } || [ -z "$$CI" ]

test: .venv/.dev bitcoind electrumx jspeer
	$(PYTEST) $(ARGS)

soak: .venv/.dev
	$(BIN)/python scripts/soak.py $(ARGS)

# The peers land in build/bench; one that cannot be had is named in the rows.
bench: BENCH ?= dht
bench: .venv/.runtime
	$(BIN)/python -m benchmarks $(BENCH) $(ARGS)

wheel: .venv/.dev
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

clean:
	rm -rf .venv .exv .bitcoind tests/interop/node_modules build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
	  .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
