# make run    set up, start the local stack, run profiles/first-run.toml, judge it, stop everything
# make test   set up, then every test
# make check  format, lint, types
# make bench  measure the speed beside a C floor and peers, write docs/performance.md
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
# A command that finds its bytecode starts in three quarters of the time, and a run is half a dozen of them.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
STACK := tests/stack
UNPATCHED := tests/benchmarks tests/lying_gateway
ATTACKS := $(addprefix tests/drive/test_,hostile.py rfc6455.py tls_and_compression.py engineio_cases.py crew.py)
DRIVE := tests/drive $(addprefix --ignore=,$(ATTACKS))
SERVERS := $(wildcard tests/inject/test_kinds_*.py)
USERS := $(addprefix tests/inject/test_,crew.py failover.py kinds.py flap.py linkprobes.py)
FAULTS := tests/inject $(addprefix --ignore=,$(SERVERS) $(USERS))
MUTATED := tests/prove/test_mutations.py
PAGES := tests/report tests/webui tests/harness tests/reference_target
LAWS := $(addprefix tests/,measure tally plan)
PARTS := tests $(addprefix --ignore=,$(LAWS) $(PAGES) $(STACK) $(UNPATCHED) tests/drive tests/inject tests/e2e $(MUTATED))
PROVING := tests/e2e/test_prove.py
PROOF := $(PROVING)::test_the_command_plants_200_000_deliveries_and_finds_them_all
PROVEN := $(PROVING) --deselect $(PROOF)
COMMANDS := tests/e2e/test_commands.py
CHAOS := tests/e2e/test_chaos.py
PLAYED := $(addprefix tests/e2e/test_,gameday.py prove_faults.py)
JUDGED := $(addprefix tests/e2e/test_,judged_faults.py crew.py tokens.py faults.py)
WHOLE := tests/e2e $(addprefix --ignore=,$(PROVING) $(COMMANDS) $(CHAOS) $(PLAYED) $(JUDGED))
SIDE := $(MAKE) --no-print-directory --output-sync=target
PYTEST := $(BIN)/python -m pytest -q

QUICK := FAULTS PAGES SERVERS PARTS LAWS USERS STACK DRIVE ATTACKS UNPATCHED COMMANDS
RUNS := WHOLE PROVEN JUDGED PLAYED MUTATED
ALONE := PROOF CHAOS
AGAIN := $(addprefix again-,$(QUICK) $(RUNS) $(ALONE))

.PHONY: run test check bench setup servers clean lock $(QUICK) $(RUNS) $(ALONE) $(AGAIN)

run: servers
	@$(BIN)/tickstorm run first-run

# Tests mostly wait for servers, so groups of them go side by side, each in a process of its own: Locust patches the
# standard library of a whole process, and some must not be patched. Runs of the whole tool come after the others, because
# what else runs beside a load generator is in its figures, and alone where a processor that is busy elsewhere would be.
# What failed beside others is said, and played once more alone: a test that fails twice fails. One group: make DRIVE
test: servers
	@rm -rf .again && mkdir .again
	@$(SIDE) -k -j5 $(QUICK); $(SIDE) -k -j3 $(RUNS); $(SIDE) -k $(ALONE); $(SIDE) -k $(AGAIN)

$(QUICK) $(RUNS) $(ALONE):
	@mkdir -p .again; $(PYTEST) -o cache_dir=.again/$@ $($@); status=$$?; echo $$status > .again/$@.status; [ $$status = 0 ]

$(AGAIN): again-%:
	@case $$(cat .again/$*.status 2>/dev/null || echo none) in \
	0) ;; \
	1) echo "once more, alone: what failed in $*"; $(PYTEST) -o cache_dir=.again/$* --last-failed --last-failed-no-failures none $($*) ;; \
	*) echo "the tests of $* did not come to their end"; exit 1 ;; \
	esac

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
	@$(BIN)/python -m compileall -q loadtests reference_target lying_gateway
	@touch $@

lock:
	@uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q -o requirements.lock
	@uv pip compile benchmarks/requirements.in --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q -o benchmarks/requirements.lock

clean:
	@rm -rf $(VENV) .servers .stack .bench
