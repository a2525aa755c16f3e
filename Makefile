# The project's only command runner. The first call of any target installs what it needs into .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SOURCES := diptych models serving training tests benchmarks protos
# Torch and BLAS would each start a thread per core in every test process.
TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-full test-slow test-faults test-lowest bench fmt lint types imports protos protos-write unit check wheel pins clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): requirements/all.txt pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python 3.11 or newer is needed, {sys.executable} is {v[0]}.{v[1]}; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements/all.txt)"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements/all.txt
	# Two distributions write the module docstring_parser: pydoclint needs the fork's, which serves tyro as well.
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --reinstall "$$(grep '^docstring-parser-fork==' requirements/all.txt)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)

setup: $(INSTALLED)  ## install everything, pinned, into .venv

demo: $(INSTALLED)  ## train, evaluate, export, serve and search on real data, in some minutes
	$(BIN)/diptych demo

test: fmt lint types imports protos unit  ## everything that one environment can check, in at most 15 minutes

test-full: test test-slow  ## what needs other environments or long runs as well, in at most 60 minutes

test-slow: $(INSTALLED)  ## only what test-full adds to test
	$(TEST_ENV) $(BIN)/pytest -m slow

test-faults: $(INSTALLED)  ## the long tests of crashes, power losses and failing disks, part of test-slow, in at most 10 minutes
	$(TEST_ENV) $(BIN)/pytest -m slow -v tests/faults tests/serving/collections/test_state_machine.py

test-lowest: $(INSTALLED)  ## the tests, with the lowest versions that are admitted
	$(TEST_ENV) $(BIN)/pytest -m lowest

unit: $(INSTALLED)  ## the tests that are not slow
	$(TEST_ENV) $(BIN)/pytest -m "not slow and not gpu and not lowest" -n 2

fmt: $(INSTALLED)  ## formatting, checked (`make fmt FIX=1` writes it)
	$(BIN)/ruff format $(if $(FIX),,--check) $(SOURCES)

lint: $(INSTALLED)  ## lint, docstrings against signatures, spelling
	$(BIN)/ruff check $(if $(FIX),--fix) $(SOURCES)
	$(BIN)/pydoclint --quiet diptych models serving training
	$(BIN)/typos

types: $(INSTALLED)  ## strict types, everywhere
	$(BIN)/mypy

imports: $(INSTALLED)  ## who may import whom
	$(BIN)/lint-imports

protos: $(INSTALLED)  ## lint and breaking changes of the wire, generated code up to date
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code
	cd protos && ../$(BIN)/buf build -o - | ../$(BIN)/buf breaking - --against baseline.binpb
	$(BIN)/python protos/generate.py --check

protos-write: $(INSTALLED)  ## generate the wire types from the protos
	$(BIN)/python protos/generate.py

check: test  ## another name for test

bench: $(INSTALLED)  ## every benchmark, hours; docs/benchmarks.md has them one by one
	for name in quality_text quality_emoji quality_fashion startup views training serving; do $(BIN)/python -m benchmarks.$$name || exit 1; done

wheel: $(INSTALLED)  ## build the wheel into dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

pins: $(INSTALLED)  ## pin the dependencies of pyproject.toml anew
	$(BIN)/uv pip compile --quiet --universal --no-emit-index-url --no-annotate --upgrade --python-version 3.11 --all-extras --group dev pyproject.toml -o requirements/all.txt

clean:  ## remove the environment and what was built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
