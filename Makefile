# Two commands set everything up on a bare machine: `make demo` and `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Any Python from 3.11 on; name another one with `make install PYTHON=/path/to/python3`.
PYTHON ?= python3
# Installed by a call of its own and by its exact version: a range would let pip prefer a build
# that brings gigabytes of CUDA packages over one that is already at hand.
TORCH := $(shell grep '^torch==' constraints.txt)
PINS := $(shell grep -c '==' constraints.txt)
DEMO_OUT ?= demo-out
# What pip does, in one line that is rewritten on a terminal, and now and then a line elsewhere.
SHOW_PIP = awk 'BEGIN { seen = system("test -t 1") == 0 } \
  /^Collecting / { count++; \
    if (seen) printf "\r\033[K  package %d: %s", count, $$2; \
    else if (count % 25 == 0) print "  " count " packages found"; fflush() } \
  /^Installing collected packages/ { \
    printf "%s  unpacking %d packages\n", seen ? "\r\033[K" : "", split($$0, names, ","); fflush() } \
  END { if (seen) printf "\r\033[K" }'
# Most tests wait for processes of their own half of the time, so that two at a time pay.
TESTS_AT_ONCE ?= 2
SITE ?= site

.PHONY: help install demo test bench soak gpu-check lint coverage docs pins clean

help:
	@echo "make demo     install, invert the sample photographs, print where the report is"
	@echo "make test     install, then ruff, mypy and pytest"
	@echo "make install  make the environment in $(VENV)"
	@echo "make coverage the tests, and which lines none of them reaches"
	@echo "make docs     the documentation as a site in $(SITE), checked strictly"
	@echo "make bench    the benchmarks of tests/bench"
	@echo "make soak     thousands of hostile inputs, of tampered outputs and of full disks"
	@echo "make gpu-check  kernels, steps, pipeline and bench on a GPU; skipped where there is none"
	@echo "make pins     write constraints.txt from the environment"
	@echo "make clean    remove the environment, the demo's output and caches"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@python=; \
	for candidate in "$(PYTHON)" python3.13 python3.12 python3.11; do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "error: Python 3.11 or newer is needed, and '$(PYTHON)' is not;" \
	    "name one with: make install PYTHON=/path/to/python3" >&2; exit 2; fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "error: '$$python' lacks venv; install its venv package" \
	    "(Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 2; fi; \
	if ! command -v "$${CXX:-c++}" >/dev/null && ! command -v g++ >/dev/null \
	  && ! command -v clang++ >/dev/null; then \
	  echo "error: a C++ compiler is needed and neither c++, g++ nor clang++ is there;" \
	    "install one (Debian, Ubuntu: apt-get install g++) or set CXX" >&2; exit 2; fi; \
	[ -x $(BIN)/python ] || "$$python" -m venv $(VENV)
	@echo "installing into $(VENV), a few minutes: 1 of 2, $(TORCH)"
	@$(BIN)/python -m pip install --progress-bar off "$(TORCH)" | $(SHOW_PIP)
	@echo "installing into $(VENV): 2 of 2, restyle and up to $(PINS) packages it is tested with"
	@$(BIN)/python -m pip install --progress-bar off -c constraints.txt -e '.[dev]' | $(SHOW_PIP)
	@echo "installed; $(BIN)/restyle --help says what there is"
	@touch $@

demo: install
	$(BIN)/restyle invert samples --out "$(DEMO_OUT)" --model faces64 \
	  --faces all --reconstructions all
	@echo
	@echo "Open in a browser: $(abspath $(DEMO_OUT))/report.html, or: $(BIN)/restyle view $(DEMO_OUT)"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest --numprocesses $(TESTS_AT_ONCE)

coverage: install
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses $(TESTS_AT_ONCE)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Its builders announce their successors in a banner, which the variable leaves out.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir "$(SITE)"

bench: install
	@shopt -s nullglob; files=(tests/bench/bench_*.py); \
	if [ $${#files[@]} -eq 0 ]; then echo "no benchmarks in tests/bench yet"; exit 0; fi; \
	for file in "$${files[@]}"; do echo "== $$file"; $(BIN)/python "$$file"; done

soak: install
	@for module in hostile_inputs tampered full_disk; do \
	  echo "== $$module"; $(BIN)/python -m tests.soak.$$module; done

gpu-check: install
	@bash recipes/gpu/checks.sh "$(abspath $(BIN))/python"

pins: install
	@{ echo "# Exact versions of the tested environment; rewritten by 'make pins'."; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed -E 's/^(torch==[0-9.]+)\+.*/\1/' \
	  | grep -E '^[A-Za-z0-9._-]+==' ; } > constraints.tmp
	@mv constraints.tmp constraints.txt
	@touch $(STAMP)

clean:
	rm -rf $(VENV) demo-out site .coverage* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
