# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUT ?= demo

.PHONY: help install demo test test-slow test-gpu lint clean

help:
	@echo "make demo       install into .venv, train on the embedded digits, write $(DEMO_OUT)/report.html"
	@echo "make test       install into .venv, then lint, type-check and test"
	@echo "make test-slow  the longer checks: twenty kills, compiled runs, all claims of the theory, a Dask cluster"
	@echo "make test-gpu   the tests that need a CUDA device"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "offdiag needs Python >= 3.11; found $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: install
	$(BIN)/offdiag demo --out $(DEMO_OUT)

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

test-slow: install
	$(BIN)/python -m pytest -m slow

test-gpu: install
	$(BIN)/python -m pytest -m gpu -p no:xdist

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
