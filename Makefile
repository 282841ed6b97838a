# make setup      the environment .venv; every other target makes it first when it is missing or out of date
# make demo       the whole study on the embedded world, into build/demo
# make lint       ruff, mypy, and the counts of house style (tests/tools/house.py)
# make check      lint and the fast tests, on CORES processes: what to run before a commit
# make test       lint and every test: what counts; on CORES processes, then those marked alone one by one
# make docs       docs/cli.md, the links of all pages, and the site build/site; whatever is broken fails
# make bench-gpu  what things cost on a GPU, in eight minutes (python -m tests.bench.gpu; --dry without one)
# make campaign, fuzz, bench   long: commands that are killed, hostile inputs, and what things cost
# Variables: PYTHON (the interpreter of .venv), CORES, CONSTRAINTS (empty: the newest versions that pyproject.toml allows)
PYTHON ?= python3
CORES ?= 2
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
TESTS := $(BIN)/python -m tests.tools.in_memory -m pytest
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix -c ,$(CONSTRAINTS))

.PHONY: setup demo lint check test campaign fuzz bench bench-gpu docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: kvtool needs Python 3.11 or newer, found $$($(PYTHON) --version 2>&1); set PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv --upgrade-deps $(VENV) >/dev/null
	$(PIP) -e '.[cpu,dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.ready
	$(PIP) -e '.[docs]'
	@touch $@

demo: setup
	$(BIN)/kvtool demo build/demo

lint: setup
	$(BIN)/ruff check kvtool tests
	$(BIN)/ruff format --check kvtool tests
	$(BIN)/mypy
	$(BIN)/python -m tests.tools.house

check: lint
	$(TESTS) -m "not slow" -n $(CORES) --dist loadfile

test: lint
	$(TESTS) -m "not alone" -n $(CORES) --dist loadfile
	$(TESTS) -m alone
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || \
		echo "make: no chromium here: tests/browser was left out; apt-get install chromium, or set CHROMIUM" >&2

campaign: setup
	$(BIN)/python -m tests.campaign

fuzz: setup
	$(BIN)/python -m tests.fuzz

bench: setup
	$(BIN)/python -m tests.bench

bench-gpu: setup
	$(BIN)/python -m tests.bench.gpu

docs: $(VENV)/.docs
	$(BIN)/python -m kvtool.cli.reference > docs/cli.md
	$(BIN)/python -m tests.tools.links
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -d build/doctrees docs build/site

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
