# `make demo`, `make test`, `make docs`; `make bench` measures.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint docs audit bench install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	$(BIN)/python -m compileall -q src
	@touch $@

lint: install
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The page of each document, and the notebook run anew: docs/_build/html/index.html
docs: install
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# Known holes in the libraries; where no service answers it says so and passes.
audit: install
	$(BIN)/python -m pip install --quiet 'pip-audit>=2.7' || true
	$(BIN)/python .ci/audit.py

bench: install
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/bench.py --write

demo: install
	$(BIN)/python -m photometrus.demo

clean:
	rm -rf demo docs/_build .pytest_cache .ruff_cache .mypy_cache
