# `make demo` and `make test` do all their own set-up: Python 3.11 or newer is all they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?=

.PHONY: help install demo ui test bench drills lint format lock clean

help:           ## this list
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/: .*## */\t/' | expand -t 12

install: $(STAMP)  ## virtual environment with the locked versions

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(STAMP)

demo: $(STAMP)  ## materialise the embedded stream, print the leaderboard and the report's path
	$(BIN)/st-pipeline demo

ui: $(STAMP)    ## the Dagster UI on the same results, http://127.0.0.1:3000
	$(BIN)/st-pipeline ui

test: $(STAMP)  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

bench: $(STAMP)  ## speed and memory against the published form, written to docs/benchmarks.md (half an hour)
	$(BIN)/python -m benchmarks

drills: $(STAMP)  ## kill -9 two hundred times, and compare with an undisturbed run; 5,000 malformed inputs; a crowd of runs; a year (hours)
	$(BIN)/python -m drills.kills --kills 200
	$(BIN)/python -m drills.fuzz --count 5000
	$(BIN)/python -m drills.crowd --runs 8 --minutes 30
	$(BIN)/python -m drills.year

lint: $(STAMP)  ## formatting, linting, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)  ## rewrite the code in the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(STAMP)  ## write requirements.lock from what is installed
	{ echo '# Made with `make lock`: the exact versions that are tested together, for running and developing.'; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed 's/^torch==.*/torch==2.13.0/'; } > requirements.lock

clean:          ## remove the virtual environment and the state of this folder
	rm -rf $(VENV) .st_pipeline
