# The two commands: `make demo` and `make test`. Each sets up what it needs, from nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the workers of a local cluster are given (docs/architecture.md); what is compared gets it too.
ALLOCATOR := MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=536870912 MALLOC_MMAP_THRESHOLD_=536870912

.PHONY: help demo test test-s3 test-flows test-browser e2e chaos bench guard lint format \
  requirements clean

help:
	@echo "make demo   set up, draw a small archive, fit, score, evaluate: one picture and a report"
	@echo "make test   set up, run the tests"
	@echo "make test-s3  the tests of object storage, against a real server (Ceph's gateway, Debian)"
	@echo "make test-flows  the tests of the flows, with a real Prefect server"
	@echo "make test-browser  the tests of the report in a browser (Chromium, Debian)"
	@echo "make e2e    nights from end to end: Prefect on PostgreSQL, S3, Dask with TLS, a browser"
	@echo "make chaos  set up, kill workers and drivers and fail requests: no result changes"
	@echo "make bench  measure speed, memory and scale, against anomalib and Ray too (about an hour)"
	@echo "make guard  the one measurement that may fail: the core against dense products"
	@echo "make lint   set up, check format, lint and types"

demo: $(VENV)/.run
	$(BIN)/padim-dist demo

# Two files at a time: most of them wait for processes of their own.
test: $(VENV)/.dev
	$(BIN)/pytest --numprocesses 2 --dist loadfile

# A server of its own on a port of its own; ended also where a test fails or somebody interrupts.
test-s3: $(VENV)/.dev
	trap 'infra/dev/radosgw stop --port 9180' EXIT; trap 'exit 130' INT TERM; \
	  infra/dev/radosgw start --port 9180 && \
	  eval "$$(infra/dev/radosgw env --port 9180)" && $(BIN)/pytest tests/s3

test-flows: $(VENV)/.dev
	$(BIN)/pytest tests/flows

test-browser: $(VENV)/.dev
	$(BIN)/pytest tests/browser

e2e: $(VENV)/.dev
	$(BIN)/python -m tests.e2e e2e

chaos: $(VENV)/.dev
	$(BIN)/python -m tests.chaos --trials 20

bench: $(VENV)/.run .venv-bench/.done
	$(ALLOCATOR) $(BIN)/python -W ignore -m benchmarks

guard: $(VENV)/.run
	$(ALLOCATOR) $(BIN)/python -m benchmarks.core --guard

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  (echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Set PYTHON=..." && exit 1)
	$(PYTHON) -m venv $(VENV)

# An old pip looks for the newest version of what is asked for with an extra, whatever is locked.
$(VENV)/.run: requirements.txt requirements-pip.txt pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-pip.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

# What the benchmarks compare with: an environment of its own, since it would not fit into ours.
.venv-bench/.done: benchmarks/requirements.txt requirements-pip.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-pip.txt
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/requirements.txt
	@touch $@

# Exact versions with hashes and no address of any registry. Needs uv.
requirements:
	echo pip | uv pip compile - --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate -o requirements-pip.txt
	uv pip compile pyproject.toml --extra flows --extra kubernetes --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate -o requirements.txt
	uv pip compile pyproject.toml --extra flows --extra kubernetes --extra dev --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate -c requirements.txt -o requirements-dev.txt
	uv pip compile benchmarks/requirements.in --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate -c requirements.txt -o benchmarks/requirements.txt

clean:
	rm -rf $(VENV) .venv-bench demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
