# The two commands that matter: `make run` and `make test`. `make` alone lists them all.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help
.SILENT:
.DELETE_ON_ERROR:

PYTHON ?= python3
PYTEST_ARGS ?=
# More workers than cores: most of a test's time is waiting for a database. A file goes to one of them, so that what
# its tests share is made once; the many short files of tests/unit come last, so that all of them end together.
PYTEST_WORKERS ?= 3
LOCK_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
PROJECTS := pyproject.toml app/pyproject.toml
# A benchmark is a module that can be run; the others are their tools.
BENCHMARKS := $(filter-out gather,$(basename $(notdir $(shell grep -l '__name__ == "__main__"' benchmarks/*.py))))

.PHONY: help run test lint format lock bench clean FORCE

help: ## this list
	awk -F ':.*## ' '/^[a-z%-]+:.*## / { sub("%", "NAME", $$1); printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp ## serve Finstage on http://localhost:8081
	exec $(BIN)/finstage serve

test: $(VENV)/dev.stamp ## the whole suite; a part of it with PYTEST_ARGS="-k name"
	tools/ensure-servers mariadb postgresql redis prometheus chromium
	exec $(BIN)/pytest -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(VENV)/dev.stamp ## style, types and layers
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet || { echo "not formatted: make format" >&2; exit 1; }
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp ## format the code and mend what can be mended
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

bench: $(BENCHMARKS:%=bench-%) ## every benchmark, and all of them beside their peers
	$(BIN)/python -m benchmarks.gather

bench-%: $(VENV)/bench.stamp FORCE ## one benchmark, into benchmarks/results/NAME.json
	tools/ensure-servers
	$(BIN)/python -m benchmarks.$*

lock: $(VENV)/dev.stamp ## requirements/*.txt anew from *.in; newer versions with LOCK_ARGS=--upgrade
	cd requirements && for name in run dev bench; do \
	    ../$(BIN)/pip-compile --quiet $(LOCK_ARGS) --allow-unsafe --generate-hashes --no-emit-find-links \
	        --no-emit-index-url --no-emit-trusted-host --strip-extras --output-file=$$name.txt $$name.in; \
	done

clean: ## remove what the other commands made, but never the data in var/
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
	find src app tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# A stamp is written last: what an interrupted run left half made is made again. New locks mean a new environment,
# because pip would leave in it what they no longer name.
$(VENV)/made.stamp: requirements/run.txt requirements/dev.txt
	command -v $(PYTHON) >/dev/null || \
	    { echo "$(PYTHON) is not installed: sudo apt-get install python3 python3-venv" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or later is needed, $(PYTHON) is older; name another: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$(PYTHON) cannot make a virtual environment: sudo apt-get install $(notdir $(PYTHON))-venv" >&2; exit 1; }
	echo "making $(VENV) with $$($(PYTHON) --version)"
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/run.stamp: $(VENV)/made.stamp $(PROJECTS)
	echo "installing what Finstage needs into $(VENV)"
	$(PIP) install --require-hashes -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation -e . -e ./app
	touch $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp requirements/bench.txt
	echo "installing what the benchmarks compare with into $(VENV)"
	$(PIP) install --require-hashes -r requirements/bench.txt
	touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	echo "installing what the tests need into $(VENV)"
	$(PIP) install --require-hashes -r requirements/dev.txt
	touch $@
