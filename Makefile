# Needs python3 (3.11 or newer) and make, nothing else. `.ci/run` calls the same targets.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

# SOURCE=dir: your own photos in the demo. FULL=1: the long form of the benchmarks; DATA=dir: labelled photos for them.
# ARGS: more pytest options.
SOURCE ?=
FULL   ?=
DATA   ?=
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test check lint types bench e2e clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with the pinned packages (the other targets do it by themselves)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is older than 3.11; say which to use: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	  || { echo "python3 -m venv failed; on Debian and Ubuntu: apt install python3-venv"; rm -rf $(VENV); exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	@touch $@

demo: $(STAMP) ## run the example Dag in real Airflow on sample photos, or on SOURCE=dir
	$(BIN)/python demo/run_demo.py $(if $(SOURCE),--source "$(SOURCE)")

test: $(STAMP) ## run the tests (all but e2e)
	$(PYTEST) -m "not e2e" $(ARGS)

lint: $(STAMP) ## ruff: rules and format; interrogate: docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/interrogate --quiet airflow_facefog

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

check: lint types test ## everything a change must pass

e2e: $(STAMP) ## the slow tests: a real scheduler, the demo
	$(PYTEST) -m e2e $(ARGS)

bench: $(STAMP) ## measure, in minutes; FULL=1 for the long form, DATA=dir (COCO) for face coverage
	$(BIN)/python -m benchmarks --size $(if $(FULL),full,ci) $(if $(DATA),--data "$(DATA)")

clean: ## remove what was built (build/, caches); .venv stays
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
