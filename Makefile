# The verbs to work on Primacron. `make demo` and `make test` need nothing but Python, Node and a network.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test check bench docs clean

demo: $(VENV)/installed
	$(BIN)/python -m examples.auction

test: check $(VENV)/tools tests/js/node_modules/installed
	scripts/install-debian chromium nginx
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/tools
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/tools
	$(BIN)/python -m benchmarks $(if $(CASE),--case $(CASE))

docs: $(VENV)/tools
	$(BIN)/python -m docs.generate

clean:
	rm -rf $(VENV) build tests/js/node_modules benchmarks/bin
	find src -name '*.so' -delete

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

# What runs: the package with its compiled modules.
$(VENV)/installed: pyproject.toml setup.py $(wildcard src/primacron/*/*.pxd) src/primacron/standalone/frames.py | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable .
	touch $@

# What tests and checks it.
$(VENV)/tools: $(VENV)/installed
	$(BIN)/pip install --quiet --group dev
	touch $@

tests/js/node_modules/installed: tests/js/package.json tests/js/package-lock.json
	cd tests/js && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	touch $@
