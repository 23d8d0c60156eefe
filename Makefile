# The environment lives in .venv. Its stamp is newer than what it was made from: nothing to do when it is right.
# Give pip more, such as another index for torch: make setup TORCH_FLAGS="--index-url URL"

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
TORCH_FLAGS ?=
BIN := .venv/bin
STAMP := .venv/.right
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

.PHONY: setup demo test slow check bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "Millwright needs Python 3.11; $(PYTHON) is not. Install it, or: make setup PYTHON=/path/to/python3.11" >&2; \
	  exit 2; }
	@echo "Making the environment in .venv (about 2.5 GB; minutes the first time)."
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@echo "1/2 torch" && $(PIP) install --quiet -c constraints.txt $(TORCH_FLAGS) torch
	@echo "2/2 everything else" && $(PIP) install --quiet -c constraints.txt -e '.[test,check]'
	@touch $(STAMP)
	@echo "The environment is ready."

demo: setup
	@$(BIN)/millwright demo

test: setup
	@$(BIN)/python -m pytest

slow: setup
	@$(BIN)/python -m pytest -m slow

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: setup
	@$(PIP) install --quiet -c constraints.txt -e '.[bench]'
	@$(BIN)/python -m pytest tests/benchmarks -m slow -s

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
