# Commands for working on Primacron. `make demo` and `make test` need only Python, Node and a network.

PYTHON ?= python3
VENV ?= .venv
# The demo's port.
PORT ?= 8080
# Parallel test processes: tests spend much of their time waiting.
JOBS ?= 4
# The long scenarios load the machine themselves: more of them at once lose their clients for lack of time.
SOAK_JOBS ?= 2
# How long `make soak` takes: 1 for up to 20 minutes, long for longer.
SOAK ?= 1
BIN = $(VENV)/bin
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder --durations=25

.PHONY: demo build test test-packages soak check bench bench-packages docs clean

demo: $(VENV)/installed
	$(BIN)/python -m examples.auction --port $(PORT)

build: $(VENV)/installed

test: test-packages check $(VENV)/tools tests/js/node_modules/installed
	$(PYTEST) $(PYTEST_ARGS)
	@echo "Once more, as plain Python:"
	PRIMACRON_PLAIN=1 $(PYTEST) $(PYTEST_ARGS)

soak: test-packages $(VENV)/tools tests/js/node_modules/installed
	SOAK=$(SOAK) $(PYTEST) -n $(SOAK_JOBS) $(PYTEST_ARGS)

# Runs first, to provide the compiler: the tests need a compiled package, even if it was installed without.
PYTHON_H = $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
test-packages:
	scripts/install-debian chromium nginx redis-server gcc libc6-dev=/usr/include/stdio.h python3-dev=$(PYTHON_H)
	PRIMACRON_PLAIN= $(BIN)/python -c 'import primacron; exit(not primacron.compiled)' 2>/dev/null || rm -f $(VENV)/installed

check: $(VENV)/tools
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: bench-packages $(VENV)/bench benchmarks/peers/node_modules/installed
	$(BIN)/python -m benchmarks $(CASE:%=--case %) $(BENCH_ARGS)

# Runs first, because the codec needs the compiler when the package is installed.
bench-packages:
	scripts/install-debian gcc libc6-dev=/usr/include/stdio.h libssl-dev=/usr/include/openssl/ssl.h openssl \
		nginx redis-server libnginx-mod-nchan=/usr/lib/nginx/modules/ngx_nchan_module.so

docs: $(VENV)/tools
	$(BIN)/python -m docs.generate

clean:
	rm -rf $(VENV) build tests/js/node_modules benchmarks/peers/node_modules benchmarks/bin
	find src -name '*.so' -delete

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

# The package with its compiled modules.
TYPES = $(wildcard src/primacron/*.pxd src/primacron/*/*.pxd)
$(VENV)/installed: pyproject.toml setup.py $(TYPES) $(TYPES:.pxd=.py) | $(VENV)/bin/python
	@echo "Installing Primacron. Where there is a C compiler it is compiled: a minute or two without a word."
	$(BIN)/pip install --quiet --editable .
	touch $@

# The tools that test and check it.
$(VENV)/tools: $(VENV)/installed
	$(BIN)/pip install --quiet --group dev
	touch $@

# The servers that the benchmarks compare it with.
$(VENV)/bench: $(VENV)/installed
	$(BIN)/pip install --quiet --group bench
	touch $@

%/node_modules/installed: %/package.json %/package-lock.json
	cd $* && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	touch $@
