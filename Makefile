# make run    set up, start the local stack, run profiles/first-run.toml, judge it, stop everything
# make test   set up, then every test
# make check  format, lint, types
# make bench  measure the speed beside a C floor and peers, write docs/performance.md
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FAULTS := tests/inject
SERVERS := $(wildcard tests/inject/test_kinds*.py tests/inject/test_crew.py tests/inject/test_failover.py)
STACK := tests/stack
UNPATCHED := tests/benchmarks tests/lying_gateway
DRIVE := tests/drive
WHOLE := tests/e2e
PROVE := tests/prove/test_mutations.py tests/e2e/test_prove.py
SIDE := $(MAKE) --no-print-directory --output-sync=target
PYTEST := $(BIN)/python -m pytest -q -p no:cacheprovider

.PHONY: run test test-faults test-servers test-stack test-drive test-parts test-whole test-prove check bench setup servers clean lock

run: servers
	@$(BIN)/tickstorm run first-run

# Parts that mostly wait for servers go side by side. Runs of the whole tool come after them, because what else runs
# beside a load generator is in its figures; the proof's judge counts, so it goes beside runs whose limits are wide.
test: servers
	@$(SIDE) -j5 test-parts test-drive test-faults test-servers test-stack
	@$(SIDE) -j2 test-prove test-whole

test-faults:
	@$(PYTEST) $(FAULTS) $(addprefix --ignore=,$(SERVERS))

test-servers:
	@$(PYTEST) $(SERVERS)

# Locust patches the standard library of a whole process: what must not be patched has one of its own.
test-stack:
	@$(PYTEST) $(STACK)
	@$(PYTEST) $(UNPATCHED)

test-drive:
	@$(PYTEST) $(DRIVE)

test-parts:
	@$(PYTEST) tests $(addprefix --ignore=,$(FAULTS) $(STACK) $(UNPATCHED) $(DRIVE) $(WHOLE) $(PROVE))

test-whole:
	@$(PYTEST) $(WHOLE) $(addprefix --ignore=,$(PROVE))

test-prove:
	@$(PYTEST) $(PROVE)

check: $(READY)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

# About ten minutes; wants the machine to itself. Rows by name: make bench ROWS="delivery-100 peer-picows"
bench: servers
	@$(BIN)/python -m benchmarks $(ROWS)

setup: $(READY)

servers: $(READY)
	@$(BIN)/python -m loadtests.stack.fetch

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Tickstorm needs Python 3.11, 3.12 or 3.13 on PATH (or: make PYTHON=/path/to/python)"; exit 2; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lock:
	@uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q -o requirements.lock
	@uv pip compile benchmarks/requirements.in --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q -o benchmarks/requirements.lock

clean:
	@rm -rf $(VENV) .servers .stack .bench
