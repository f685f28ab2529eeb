# Every target sets up what it needs in .venv on its first run; later runs start at once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
TORCH := torch==2.13.0
WORKERS ?= 2
PYTEST_ARGS ?=
# The workers share the cores: one thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

.DEFAULT_GOAL := help
.PHONY: help demo test test-torch-only test-jax-only lint format types bench readme docs docs-serve docs-test clean

help:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

# torch comes first and pinned: no other package then pulls a newer one.
$(VENV)/.frameworks:
	@echo "setting up $(VENV): $(TORCH), then jax (minutes, once)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) jax
	@touch $@

$(VENV)/.demo: $(VENV)/.frameworks pyproject.toml
	$(PIP) --editable '.[torch,jax,demo]'
	@touch $@

# The pin is repeated, since pyqtorch asks for any torch: pip then keeps this one, or fails.
$(VENV)/.dev: $(VENV)/.demo pyproject.toml
	$(PIP) $(TORCH) --editable '.[torch,jax,demo,learn,quantum,dev]'
	@touch $@

demo: $(VENV)/.demo ## the table of transforms, and a regression beside scikit-learn
	@$(BIN)/python examples/demo.py

test: $(VENV)/.dev ## the test suite, both frameworks
	DIPTYCH_FRAMEWORKS=torch,jax $(PYTEST) $(PYTEST_ARGS)

test-torch-only: $(VENV)/.dev ## the suite as if JAX were not installed
	DIPTYCH_FRAMEWORKS=torch $(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-jax-only: $(VENV)/.dev ## the suite as if PyTorch were not installed
	DIPTYCH_FRAMEWORKS=jax $(PYTEST) -m "not slow" $(PYTEST_ARGS)

lint: $(VENV)/.dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev ## mend what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev ## pyright on src
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.demo ## what a rule costs beside hand-written code
	$(BIN)/python benchmarks/overhead.py --json benchmarks/results/overhead.json

readme: $(VENV)/.demo ## measure the table of transforms and write it into README.md
	$(BIN)/python docs/generate_readme_table.py

docs: $(VENV)/.dev ## build the tutorial into site/, and run every program on its pages
	$(BIN)/python -m diptych.learn.build

docs-serve: $(VENV)/.dev ## serve site/ on 127.0.0.1:8000
	$(BIN)/diptych learn --no-browser --port 8000

docs-test: $(VENV)/.dev ## try the built site in a browser, and run its notebooks
	$(PYTEST) -m site $(PYTEST_ARGS) tests/learn $(wildcard tests/site)

clean: ## remove .venv and caches
	rm -rf $(VENV) site .cache .pytest_cache .ruff_cache .hypothesis build dist
