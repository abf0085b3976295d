# The front door. `make help` says what there is; every target sets up what it needs, once.

PYTHON ?= python3
VENV ?= .venv
BENCH ?= out/bench
PYTEST_ARGS ?= -n auto

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# One environment, two stamps: the demo needs the roles, tests need tools as well.
ROLES := $(VENV)/.roles-installed
DEV := $(VENV)/.dev-installed

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test test-all check format docs bench bench-full clean

help: ## say what there is (this text)
	@echo "Cascade: make TARGET, where TARGET is"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'
	@echo "Variables: PYTHON=$(PYTHON) (3.11 or newer), VENV=$(VENV), BENCH=$(BENCH), PYTEST_ARGS (now \"$(PYTEST_ARGS)\"; for example \"-k wire\")"

setup: $(DEV) ## install everything that tests and checks need into .venv
	@echo "Ready: $(BIN)"

demo: $(ROLES) ## ask a real model a question over an emulated LTE link (fetches torch and 93 MB of model, once)
	@$(BIN)/cascade demo

test: $(DEV) ## run the tests
	@echo "== tests"
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-all: $(DEV) ## run the tests and the long campaigns
	@echo "== tests, long campaigns included"
	@$(BIN)/python -m pytest -m "" --timeout 3600 $(PYTEST_ARGS)

check: $(DEV) ## lint, format, types, import arrows, docs
	@echo "== ruff: lint"
	@$(BIN)/ruff check --quiet .
	@echo "== ruff: format"
	@$(BIN)/ruff format --quiet --check . || { echo "some files are not formatted; 'make format' does it"; exit 1; }
	@echo "== mypy: types (the first run takes a minute)"
	@$(BIN)/mypy
	@echo "== import-linter: the arrows between rooms"
	@$(BIN)/lint-imports --no-cache --no-logo > $(VENV)/arrows.log 2>&1 || { cat $(VENV)/arrows.log; exit 1; }
	@grep "^Contracts: " $(VENV)/arrows.log
	@echo "== docs: snippets run, commands parse, references are up to date"
	@$(BIN)/python -m pytest -q tests/unit/test_docs.py tests/unit/test_doc_commands.py tests/unit/test_settings_page.py

format: $(DEV) ## format the code and sort its imports
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(DEV) ## bring the references of command line and settings, and the first screen, up to date
	@$(BIN)/python tools/help_texts.py --write
	@$(BIN)/python tools/settings_page.py --write
	@$(BIN)/python tools/first_screen.py --write
	@$(BIN)/python tools/pair_table.py --write

bench: $(DEV) ## measure this machine and run the shipped experiments, briefly; all of it goes to BENCH
	@$(BIN)/cascade bench all --quick --out $(BENCH)
	@rm -rf $(BENCH)/experiments-quick
	@$(BIN)/cascade lab run examples/lab --quick --out $(BENCH)/experiments-quick

bench-full: $(DEV) ## measure this machine and run the shipped experiments, properly
	@$(BIN)/cascade bench all --out $(BENCH)
	@rm -rf $(BENCH)/experiments
	@$(BIN)/cascade lab run examples/lab --out $(BENCH)/experiments

clean: ## remove the environment and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Cascade needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
	    echo "Name another one, for example: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "== making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(ROLES): pyproject.toml constraints.txt | $(BIN)/python
	@echo "== installing Cascade and torch (a minute or two; more where torch comes with CUDA)"
	@$(PIP) --editable '.[device,edge,broker]'
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "== installing Cascade, torch and the tools (a minute or two; more where torch comes with CUDA)"
	@$(PIP) --editable '.[device,edge,broker,lab,dev]'
	@touch $(ROLES) $@
