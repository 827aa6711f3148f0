# Everything a person needs, on a machine that has Python 3.11 or later (with venv) and make.
#   make demo    see it work        make test    prove it works
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MUTANTS := .venv-mutants
FUZZ := .venv-fuzz

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench soak fuzz coverage mutants run-mock-tiles browser-test server-test lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "tilehaul needs Python 3.11 or later; set PYTHON=/path/to/it")'
	@echo "Setting up $(VENV) (once)..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: $(READY)  ## real imagery from a misbehaving server into an archive, then a map of it
	@$(BIN)/tilehaul demo $(ARGS)

test: $(READY)  ## the tests
	@$(BIN)/python -m pytest -q $(ARGS)

check: $(READY)  ## format, lint, types, floors
	@$(BIN)/ruff format --check --quiet . || { echo 'run: make format'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/house

format: $(READY)  ## put the code in shape
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix . || true

bench: $(READY)  ## the figures of docs/benchmarks.md (needs nginx and wrk for the comparisons)
	@$(BIN)/python benchmarks/run_all.py $(ARGS)

soak: $(READY)  ## random faults, kills and resumes; nothing may be lost (ARGS="--runs 200 --seed 1", or "--serve --minutes 20")
	@PYTHONPATH=tests:. $(BIN)/python -m soak.run $(ARGS)
ifeq (,$(findstring --serve,$(ARGS)))
	@TILEHAUL_KILLS=200 $(BIN)/python -m pytest -q -o timeout=600 -k test_31 tests/contract/test_crash.py
	@TILEHAUL_TILES=1000000 $(BIN)/python -m pytest -q -o timeout=600 -k test_43 tests/e2e/scenarios
endif

coverage: $(READY)  ## every branch of policy is run by its tests, or it fails
	@$(BIN)/coverage run --branch --include='src/tilehaul/policy/*' -m pytest -q tests/policy
	@$(BIN)/coverage report --show-missing --skip-covered --fail-under=100

mutants:  ## mutation score of policy, about ten minutes (ARGS="--write --survivors")
	@test -x $(MUTANTS)/bin/python || $(PYTHON) -m venv $(MUTANTS)
	@$(MUTANTS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-mutants.lock
	@rm -rf mutants
	@$(MUTANTS)/bin/mutmut run --max-children 2
	@$(MUTANTS)/bin/python benchmarks/mutants.py $(ARGS)

run-mock-tiles: $(READY)  ## the lab's tile server on port 8001
	@$(BIN)/tilehaul mock --port 8001 $(ARGS)

browser-test: $(READY)  ## the map page, and programs that show our tiles in a page, in headless Chromium
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-browser.lock
	@if command -v npm >/dev/null; then cd tests/browser/clients && npm ci --silent --ignore-scripts --no-audit --no-fund; \
	else echo 'npm is not installed: the tests that need its packages are skipped'; fi
	@$(BIN)/python -m pytest -q tests/browser $(ARGS)

server-test: $(READY)  ## against real servers and programs (.ci/run installs those from Debian)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-servers.lock
	@$(BIN)/python -m pytest -q tests/servers $(ARGS)

fuzz:  ## broken bytes for each parser: only errors of ours may come out (ARGS="--minutes 10 --only geojson")
	@test -x $(FUZZ)/bin/python || $(PYTHON) -m venv $(FUZZ)
	@$(FUZZ)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-fuzz.lock
	@PYTHONPATH=src:tests $(FUZZ)/bin/python -m fuzz.run $(ARGS)

lock:  ## make requirements.lock anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml requirements.in -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header requirements-browser.in -o requirements-browser.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header requirements-mutants.in -o requirements-mutants.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header requirements-servers.in -o requirements-servers.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header requirements-mapproxy.in -o requirements-mapproxy.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header requirements-fuzz.in -o requirements-fuzz.lock

clean:  ## remove what was made
	rm -rf $(VENV) $(MUTANTS) $(FUZZ) mutants out/fuzz tests/browser/clients/node_modules .coverage build dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
