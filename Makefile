# `make` alone prints what there is.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS ?= plugin,collector,embedded,test,lint
CRATE := collector/event_reader
READER := collector/tallyman/event_reader.abi3.so
# What docs/guarantee.md promises that hypothesis tries outside tests/faults.
PROPERTIES := tests/unit/tallyman/store/test_event_block.py tests/unit/tallyman_kong/test_spool_model.py \
  tests/integration/store/test_rollup.py::test_with_the_rollup_a_meter_answers_as_without_it \
  tests/integration/store/test_meters.py::test_any_order_duplication_and_cut_into_batches_gives_the_sum_over_the_set_of_events

.PHONY: help install demo test faults soak bench bench-100m lint deck env

help:
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: .venv/installed  ## .venv with everything embedded

.venv/installed: pyproject.toml constraints.txt hatch_build.py $(wildcard $(CRATE)/Cargo.toml $(CRATE)/.cargo/config.toml $(CRATE)/src/*.rs)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@# pip keeps to itself why the reader was not compiled.
	@test -e $(READER) || $(BIN)/python hatch_build.py || true
	@touch $@

demo: install  ## recorded gateway traffic through the real plugin server, up to an invoice and its PDF
	@$(BIN)/tallyman demo

test: install  ## all tests, the linters and mypy
	@tests/run

faults: install  ## every fault, everywhere: killed at each durable step, thousands of histories
	FAULTS=long $(BIN)/pytest tests/faults $(PROPERTIES)

soak: install  ## an hour of random faults at a steady load, in which nothing grows; MINUTES=10 for less
	FAULTS=long FAULTS_MINUTES=$(or $(MINUTES),60) $(BIN)/pytest -rP tests/faults/test_storm.py

bench: install  ## how fast it is here: bench/results.json and the table of docs/performance.md
	@$(BIN)/python -m bench.run

bench-100m: install  ## one subject's month of 100,000,000 events: about 10 GB of disk and twenty minutes
	@$(BIN)/python -m bench.run --rounds 1 queries_100m

lint: install  ## ruff, mypy, import-linter, and of Rust what is there of rustfmt and clippy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@tests/lint_crate

env:  ## .env with random secrets for docker-compose.yml; never overwrites one
	@$(PYTHON) compose/write_env.py

deck:  ## put the usage reader and the plugin's configuration into the decK files
	$(PYTHON) deck/build.py
