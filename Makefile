# Everything runs in a virtual environment of its own, with the versions of constraints.txt.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

export DATAOPS_PROJECT := $(CURDIR)

.PHONY: help demo run status ui test test-cloud test-unit test-long lint conformance bench peers screenshots browser setup clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | sort

setup: $(READY) ## make the virtual environment
$(READY): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Set PYTHON=python3.11, for example."; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) can't make virtual environments; on Debian: apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY) ## the whole pipeline on a year of flights; again: only what is new
	@$(BIN)/dataops demo

run: $(READY) ## run what is new
	@$(BIN)/dataops run

status: $(READY) ## the scorecard
	@$(BIN)/dataops status

ui: $(READY) ## Dagster's UI on http://127.0.0.1:3000
	@$(BIN)/dataops ui

test: $(READY) lint browser ## all tests (under ten minutes)
	$(BIN)/pytest -m "not long" --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-cloud: $(READY) ## what needs the servers that stand for Google Cloud
	$(BIN)/pytest -m cloud

test-unit: $(READY) ## tests without I/O, in seconds
	$(BIN)/pytest dataops_platform_tests/unit

test-long: $(READY) browser ## everything, the long suites too
	$(BIN)/pytest

lint: $(READY) ## ruff, mypy and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

browser: ## Chromium for the UI tests: found, or installed where that is possible
	@command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || [ -n "$$DATAOPS_CHROMIUM" ] || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	  else \
	    echo "The UI tests need Chromium: install it (Debian: apt-get install chromium) or set DATAOPS_CHROMIUM to its path."; exit 2; \
	  fi; }

CASES ?= dataops_platform_tests/conformance/cases
conformance: $(READY) ## the rules against Great Expectations' definition files; CASES=folder
	@$(BIN)/python -m dataops_platform_tests.conformance $(CASES)

bench: $(READY) ## benchmarks side by side; ONLY=load for one group
	$(BIN)/python -m benchmarks $(ONLY)

peers: $(READY) ## the peers of `make bench ONLY=peers`, each in a virtual environment of its own
	$(BIN)/python -c "from benchmarks import peers; peers.install()"

screenshots: $(READY) browser ## take the README's pictures anew
	$(BIN)/python scripts/screenshots.py

clean: ## remove the virtual environment and all state
	rm -rf $(VENV) .dataops
