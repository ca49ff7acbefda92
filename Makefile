# make demo   the whole path on the embedded demo catalogue
# make test   the tests (make test-all: the slow ones too)
# make lint   style and types: ruff and mypy
# All create .venv and install into it first; PYTHON=... chooses the interpreter.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,\
	$(if $(shell command -v $(name) 2>/dev/null),$(name))) python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO ?= work/demo
NEUTRAL := tests/ops tests/losses tests/layers tests/metrics
# One process of pytest per core, up to four; each takes about 1.5 GB with what it starts.
# WORKERS=0 runs the tests in one process. A module's tests stay together, as its fixtures do.
WORKERS ?= logical
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all lint format install clean

demo: $(STAMP)
	$(BIN)/kdsr demo --workdir $(DEMO)

# The losses first on JAX; then everything, on TensorFlow. All neutral rooms on JAX take
# minutes, because JAX compiles every operation: `make test-all`.
test: $(STAMP)
	KERAS_BACKEND=jax $(PYTEST) -m "not slow" tests/losses
	$(PYTEST) -m "not slow"

test-all: $(STAMP)
	KERAS_BACKEND=jax $(PYTEST) $(NEUTRAL)
	$(PYTEST)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(STAMP)

# Made again when a requirement changes.
$(STAMP): setup.cfg constraints.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "No Python found. On Debian: apt-get install python3 python3-venv" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || { \
	  echo "KDSR-TF needs Python 3.11 or 3.12. Received: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "On Debian 12: apt-get install python3.11 python3.11-venv; then: make PYTHON=python3.11" >&2; \
	  exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "$(PYTHON) cannot create environments: it lacks ensurepip." >&2; \
	  echo "On Debian: apt-get install python$$version-venv" >&2; exit 2; }
	@echo "Creating $(VENV) and installing (the first time takes a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]' || { \
	  echo "The installation failed; pip's message is above. If it asks for a compiler," >&2; \
	  echo "on Debian: apt-get install build-essential python3-dev" >&2; exit 2; }
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
