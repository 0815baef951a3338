# make run      installs into .venv, runs examples/digits.yaml end to end and keeps serving the page (ONCE=1 ends after the job)
# make test     the default tests       make test-slow  the slow ones       make check  lint, types, tests
# pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS, pip.conf ...) apply as they are.
# Another interpreter: make PYTHON=/path/to/python3. The CUDA build of torch: make CONSTRAINTS=constraints-cuda.txt.

CONSTRAINTS ?= constraints-cpu.txt
SPEC ?= examples/digits.yaml
TEST_PROCESSES ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-with-$(CONSTRAINTS)
PACKAGES := searchspaces predictors nas db api
ONCE_FLAG := $(if $(filter-out 0,$(ONCE)),--once)
FIND_PYTHON := for python in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$python"; break; }; done

.PHONY: run install test test-slow lint types check docs bench clean

run: $(STAMP)
	@exec $(BIN)/nas run $(SPEC) $(ONCE_FLAG)

install: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@python="$$($(FIND_PYTHON))"; \
	if [ -z "$$python" ]; then \
		echo "No Python 3.11 or newer with the venv module was found (Debian: apt install python3 python3-venv)." >&2; \
		echo "If it lies elsewhere, say so: make PYTHON=/path/to/python3" >&2; exit 1; fi; \
	[ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear $(VENV)
	@echo "Installing into $(VENV); the first time this downloads a few hundred MB (README: Download sizes)."
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[dev]'
	@rm -f $(VENV)/.installed-with-*; touch $@

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" --numprocesses $(TEST_PROCESSES) $(PYTEST_ARGS)

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow --timeout=600 --numprocesses $(TEST_PROCESSES) $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

# The tables of docs/ that say what the code says
docs: $(STAMP)
	$(BIN)/python -m tests.rules._tables

# Every benchmark in its short form; each alone and in full: python -m benchmarks.NAME
bench: $(STAMP)
	@for file in benchmarks/[!_]*.py; do \
		name="$$(basename "$$file" .py)"; echo "== $$name"; $(BIN)/python -m "benchmarks.$$name" --quick --json || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
