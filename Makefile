# Everything from a fresh checkout: `make test` and `make bench` set up all they need by themselves.
# They take python3 if it is new enough, else the newest Python in PATH; PYTHON=python3.14 names another.
# Each Python has a virtual environment of its own in .venvs/ and a folder of its own in build/, so several
# can share one checkout and work at the same time.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help test laws conformance bench instructions wheel smoke sanitize ecosystem ecosystem-smoke lint ruff mypy \
	cython-lint format clean FORCE

PINLOOP_BUILD ?= release
PYTEST_ARGS ?=
BENCH_ARGS ?=
CONFORMANCE_ARGS ?=
INSTRUCTIONS_ARGS ?=
export PINLOOP_BUILD

help:
	@echo 'make test      build the wheel, install it, run the suite: as is, in debug mode, with asyncio tasks'
	@echo 'make laws      the laws of channels, select, scopes, join, streams and limiters, under thousands of orders'
	@echo 'make conformance      CPython'"'"'s own asyncio tests, on pinloop'"'"'s loop'
	@echo 'make bench     build the wheel, install it, run the quick benchmark beside the other loops'
	@echo 'make instructions     count the hot paths'"'"' instructions (valgrind); fails where they grew by 3 %'
	@echo 'make wheel     build the wheel into wheels/dist/'
	@echo 'make smoke     try the wheel in an empty environment away from the sources'
	@echo 'make sanitize  the suite under ASan and UBSan'
	@echo 'make ecosystem        the test suites of uvicorn, aiohttp and others, on asyncio and on pinloop, compared'
	@echo 'make ecosystem-smoke  the fast ones of these'
	@echo 'make lint      ruff, mypy --strict and cython-lint; also one by one: make ruff, mypy, cython-lint'
	@echo 'make format    let ruff format the Python files'
	@echo 'make clean     remove all that was built'
	@echo
	@echo 'PYTHON=python3.14                  the Python to use'
	@echo 'PINLOOP_BUILD=debug|sanitize       the kind of build (release when unset)'
	@echo 'PYTEST_ARGS="-k echo tests/api"    arguments for pytest;  BENCH_ARGS for the benchmark'
	@echo 'LAWS=100                           for make laws: how many times as thorough as make test'
	@echo 'SUITES="uvicorn websockets"        for make ecosystem;  ECOSYSTEM_ARGS for its runner'
	@echo 'CONFORMANCE_ARGS="test_streams"    for make conformance'
	@echo 'INSTRUCTIONS_ARGS=--update         for make instructions: renew benchmarks/instructions.json'

clean:
	rm -rf build wheels/dist .venvs .nox .mypy_cache .pytest_cache .ruff_cache .hypothesis

# ---------------------------------------------------------------- the Python, and where its things are kept

ifneq ($(filter-out help clean,$(MAKECMDGOALS)),)

NEEDS := import sys, venv, ensurepip; sys.version_info >= (3, 11) or sys.exit("Python " + sys.version)
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.15 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(NEEDS)' >/dev/null 2>&1 && echo $$p && break; done)
ifeq ($(PYTHON),)
$(error No Python 3.11 or newer with venv and ensurepip in PATH. Install one (on Debian and Ubuntu: \
	python3-venv and python3-dev), or name one: make PYTHON=/path/to/python)
endif
endif

# The name of this Python's folders, and what tells it from another of the same version.
BASE := $(shell $(PYTHON) -c '$(NEEDS); import sysconfig; v = sys.version_info; \
	print(f"cp{v[0]}{v[1]}{sys.abiflags}-{sysconfig.get_platform()}")' 2>/dev/null)
ifeq ($(BASE),)
$(error $(PYTHON) will not do: pinloop needs Python 3.11 or newer with venv and ensurepip (on Debian and \
	Ubuntu: python3-venv). It said: $(shell $(PYTHON) -c '$(NEEDS)' 2>&1 | tail -n 1))
endif
IDENTITY := $(shell $(PYTHON) -c 'import sys; print(sys.version.split()[0], sys.base_prefix)')

ifeq ($(filter release debug sanitize,$(PINLOOP_BUILD)),)
$(error PINLOOP_BUILD must be release, debug or sanitize; it is "$(PINLOOP_BUILD)")
endif
KEY := $(BASE)$(if $(filter-out release,$(PINLOOP_BUILD)),-$(PINLOOP_BUILD))$(if $(PINLOOP_LIBKQUEUE),-libkqueue)
VENV := .venvs/$(KEY)
WORK := build/$(KEY)
# Only the plain release wheel is one to give away.
DIST := $(if $(filter $(BASE),$(KEY)),wheels/dist,$(WORK)/dist)
BIN := $(VENV)/bin
PIP := -m pip --quiet --disable-pip-version-check

# $(call install,VENV,NAMES): what pyproject.toml asks for under these names (extras, or `build-system`).
define install
$(1)/bin/python -c 'import sys, tomllib; \
	project = tomllib.load(open("pyproject.toml", "rb")); \
	lists = project["project"]["optional-dependencies"] | {"build-system": project["build-system"]["requires"]}; \
	print(*[line for name in sys.argv[1:] for line in lists[name]], sep="\n")' $(2) >$(1)/requirements.txt
$(1)/bin/python $(PIP) install -r $(1)/requirements.txt
endef

# A virtual environment is made again when the Python it was made with has changed.
ifneq ($(IDENTITY),$(shell cat $(VENV)/.python 2>/dev/null))
$(VENV)/.python: FORCE
endif
$(VENV)/.python:
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@echo '$(IDENTITY)' >$@

# ---------------------------------------------------------------- the wheel

SOURCES := $(shell find cext src -name __pycache__ -prune -o -print) pyproject.toml setup.py MANIFEST.in \
	README.md LICENSE wheels/build.py

$(VENV)/.build-system: pyproject.toml $(VENV)/.python
	@$(call install,$(VENV),build-system)
	@touch $@

# Holds the path of the wheel.
$(WORK)/wheel: $(SOURCES) $(VENV)/.build-system
	@mkdir -p $(WORK)
	$(BIN)/python wheels/build.py $(WORK) $(DIST) >$@

$(VENV)/.installed: $(WORK)/wheel
	$(BIN)/python $(PIP) install --force-reinstall --no-deps "$$(cat $(WORK)/wheel)"
	@touch $@

$(VENV)/.test $(VENV)/.bench: $(VENV)/.%: pyproject.toml | $(VENV)/.installed
	@$(call install,$(VENV),$*)
	@touch $@

wheel: $(WORK)/wheel
	@cat $(WORK)/wheel

# Nothing but the wheel, in a place from which the sources cannot be seen; --no-index: it needs nothing else.
smoke: $(WORK)/wheel
	set -e; place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; \
	$(PYTHON) -m venv "$$place/venv"; \
	"$$place/venv/bin/python" $(PIP) install --no-index "$$(cat $(WORK)/wheel)"; \
	smoke="$$PWD/wheels/smoke.py"; cd "$$place"; venv/bin/python -I -W error "$$smoke"

# ---------------------------------------------------------------- test and bench

PYTEST = $(BIN)/python -m pytest -o cache_dir=$(WORK)/pytest_cache
ifeq ($(PINLOOP_BUILD),sanitize)
# The sanitizers must be loaded before Python; leaks are not looked for, CPython frees little when it ends.
UNDER := env LD_PRELOAD="$(shell $(CC) -print-file-name=libasan.so)" PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0:abort_on_error=0:allocator_may_return_null=1 \
	UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
PYTEST += --timeout=300 -o faulthandler_timeout=600
endif

test: $(VENV)/.installed $(VENV)/.test
	$(UNDER) $(PYTEST) $(PYTEST_ARGS)
	PYTHONASYNCIODEBUG=1 $(UNDER) $(PYTEST) $(PYTEST_ARGS)
	PINLOOP_TEST_TASKS=asyncio $(UNDER) $(PYTEST) tests/api $(PYTEST_ARGS)

# What `make test` has of these takes seconds; here each law has LAWS times as many seeds and examples.
LAWS ?= 20
laws: $(VENV)/.installed $(VENV)/.test
	PINLOOP_LAWS=$(LAWS) $(UNDER) $(PYTEST) --timeout=1800 -o faulthandler_timeout=3600 -m laws tests/api $(PYTEST_ARGS)

sanitize:
	$(MAKE) test PINLOOP_BUILD=sanitize PYTHON='$(PYTHON)'

# Wants a Python that comes with its test package; nothing else, so it has no requirements to install.
conformance: $(VENV)/.installed
	$(UNDER) $(BIN)/python tests/conformance $(CONFORMANCE_ARGS)

# A loop without a wheel for this platform is left out, and the table has one column less.
$(VENV)/.peers: pyproject.toml | $(VENV)/.bench
	@$(BIN)/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb")); \
	print(*project["project"]["optional-dependencies"]["peers"], sep="\n")' >$(VENV)/requirements.txt
	@while IFS= read -r peer; do \
		$(BIN)/python $(PIP) install --only-binary :all: "$$peer" 2>/dev/null || echo "left out, no wheel to be had: $$peer"; \
	done <$(VENV)/requirements.txt
	@touch $@

bench: $(VENV)/.installed $(VENV)/.peers
	$(BIN)/python -m pinloop bench --quick $(BENCH_ARGS)

# The counts in the file are those of a release build.
instructions: $(VENV)/.installed
	@test '$(PINLOOP_BUILD)' = release || { echo 'make instructions counts a release build'; exit 1; }
	$(BIN)/python benchmarks/instructions.py $(INSTRUCTIONS_ARGS)

# ---------------------------------------------------------------- the suites of others

SUITES ?=
ECOSYSTEM_ARGS ?=
ECOSYSTEM = $(PYTHON) -m tests.ecosystem.runner --pinloop "$$(cat $(WORK)/wheel)" --work $(WORK)/ecosystem $(ECOSYSTEM_ARGS)

ecosystem: $(WORK)/wheel
	$(ECOSYSTEM) --docs docs/ecosystem.md $(SUITES)

ecosystem-smoke: $(WORK)/wheel
	$(ECOSYSTEM) --smoke

# ---------------------------------------------------------------- lint: needs no wheel

LINT := .venvs/$(BASE)-lint

$(LINT)/.ready: pyproject.toml
	rm -rf $(LINT)
	$(PYTHON) -m venv $(LINT)
	@$(call install,$(LINT),lint test bench)
	@touch $@

lint: ruff mypy cython-lint

ruff: $(LINT)/.ready
	$(LINT)/bin/ruff check
	$(LINT)/bin/ruff format --check

mypy: $(LINT)/.ready
	$(LINT)/bin/mypy src/pinloop tests/conftest.py wheels/*.py examples/*.py tests/ecosystem/runner/*.py $(wildcard tests/typing)

# cython-lint looks for pycodestyle in PATH.
cython-lint: $(LINT)/.ready
	PATH="$$PWD/$(LINT)/bin:$$PATH" cython-lint cext

format: $(LINT)/.ready
	$(LINT)/bin/ruff format
	$(LINT)/bin/ruff check --fix

endif
