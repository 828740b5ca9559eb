# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint audit bench install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

lint: install
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

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
	rm -rf demo .pytest_cache .ruff_cache .mypy_cache
