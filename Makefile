# make setup | demo | test | campaign | fuzz | bench | docs. Every target builds the environment first when it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint campaign fuzz bench docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: kvtool needs Python 3.11 or newer, found $$($(PYTHON) --version 2>&1); set PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv --upgrade-deps $(VENV) >/dev/null
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,dev]'
	@touch $@

demo: setup
	$(BIN)/kvtool demo build/demo

lint: setup
	$(BIN)/ruff check kvtool tests
	$(BIN)/ruff format --check kvtool tests
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || \
		echo "make: no chromium here: tests/browser was left out; apt-get install chromium, or set CHROMIUM" >&2

campaign: setup
	$(BIN)/python -m tests.campaign

fuzz: setup
	$(BIN)/python -m tests.fuzz

bench: setup
	$(BIN)/python -m tests.bench

docs: setup
	$(BIN)/python -m kvtool.cli.reference > docs/cli.md

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
