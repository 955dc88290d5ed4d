# Each target makes its own virtual environment where there is none.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
SIZE ?= full
SEED ?= 1

.PHONY: help demo incident test torture lint bench clean

help:  ## Show the targets.
	@grep -E '^[a-z]+:.*## ' Makefile | sed 's/:.*## /\t/'

$(VENV)/.main: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.main
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

$(VENV)/.bench: $(VENV)/.main
	$(BIN)/python -m pip install --quiet --group bench
	touch $@

demo: $(VENV)/.main  ## Install and run the demo; it must end with exit code 1: drift found.
	$(BIN)/flightlog demo; test $$? -eq 1

incident: $(VENV)/.main  ## Install and run the incident with and without bounds, and the lost policy.
	$(BIN)/python examples/incident/incident.py
	$(BIN)/python examples/incident/lost_policy.py

test: $(VENV)/.dev  ## Install and run the tests.
	$(BIN)/python -m pytest -n 2 --dist loadfile

torture: $(VENV)/.dev  ## Crashes, kills, damages, hostile values, replays; SIZE=small or full, SEED=1.
	FLIGHTLOG_TORTURE_SIZE=$(SIZE) FLIGHTLOG_TORTURE_SEED=$(SEED) $(BIN)/python -m pytest -n 2 \
	  tests/torture tests/crash $(wildcard tests/unit/recorder/test_hostile_*.py) \
	  tests/unit/replay tests/unit/golden/judging tests/unit/integrations/otlp/test_collector.py

lint: $(VENV)/.dev  ## Linter, formatter, type checker, layer contracts.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench  ## Run every benchmark once.
	for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script || exit 1; done

clean:  ## Remove what the targets made.
	rm -rf $(VENV) flightlog-demo flightlog-incident dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
