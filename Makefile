# Targets for people. Each makes the environment .venv that it needs, once, and reuses it.
#
#   make demo OUT=somewhere        write the demo elsewhere
#   make test PYTHON=python3.12    choose the interpreter (another version makes .venv anew)

PYTHON ?= python3
OUT ?= demo-output
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# A stamp is written after the step it stands for has succeeded, never before. The stamp of the
# environment carries the version of the interpreter: the right one for another version is absent.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
CREATED := $(VENV)/.created-$(VERSION)
DEMO := $(VENV)/.installed-demo
TEST := $(VENV)/.installed-test
DEV := $(VENV)/.installed-dev
FLOWER := $(VENV)/.installed-flower

# The matrices are small: threads inside BLAS only compete with the test workers for the cores.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

.PHONY: help demo flower-demo test test-slow ledger lint format types clean
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: $(DEMO) ## Run the demo on real data; results in $(OUT)
	$(BIN)/gplconvex demo --overwrite --out '$(OUT)'

flower-demo: $(FLOWER) ## Run a few rounds on Flower: real processes that send messages
	$(BIN)/python -m gplconvex.federated.flower

test: $(TEST) ## Run the tests and doctests, except the slow ones
	$(PYTEST) -m "not slow"

test-slow: $(TEST) ## Run the slow tests
	$(PYTEST) -m slow || [ $$? -eq 5 ]  # 5: there are none

ledger: $(TEST) ## Prove, measure and break every statement
	$(BIN)/python -m proofs_check

lint: $(DEV) ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV) ## Mend style where that needs no thought
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV) ## Check types
	$(BIN)/mypy

clean: ## Remove the environment, caches and build products (never results)
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Some systems ship python3 without ensurepip. Then pip comes from outside the environment.
$(CREATED):
	@$(PYTHON) -c 'pass' || \
	  { echo "error: cannot run '$(PYTHON)'. Install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: '$(PYTHON)' is Python $(VERSION); gplconvex needs 3.11 or newer. Name one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Creating $(VENV) with Python $(VERSION)"
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	  $(PYTHON) -m venv --clear $(VENV); \
	else \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; \
	fi
	@touch $@

# The larger extras contain the smaller ones, so their stamps stand for those too.
$(FLOWER): pyproject.toml $(CREATED)
	$(PIP) install --quiet --editable '.[flower]'
	@touch $(FLOWER)

$(DEMO): pyproject.toml $(CREATED)
	$(PIP) install --quiet --editable '.[demo]'
	@touch $(DEMO)

$(TEST): pyproject.toml $(CREATED)
	$(PIP) install --quiet --editable '.[test]'
	@touch $(FLOWER) $(DEMO) $(TEST)

$(DEV): pyproject.toml $(CREATED)
	$(PIP) install --quiet --editable '.[dev]'
	@touch $(FLOWER) $(DEMO) $(TEST) $(DEV)
