# make run    set up, start the local stack, run profiles/first-run.toml, judge it, stop everything
# make test   set up, then every test but the slow ones that rarely break
# make prove-all   those, and every proof in full
# make check  format, lint, types
# make bench  measure the speed beside a C floor and peers, write docs/performance.md
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
# A command that finds its bytecode starts in three quarters of the time, and a run is half a dozen of them.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
GROUPS := FAULTS LIFE PAGES TARGET SERVERS SERVICES ASKED PARTS LAWS USERS STACK DRIVE ATTACKS UNPATCHED COMMANDS WHOLE WEB DOORS PROVEN JUDGED BLAMED PLAYED EXTENSIONS

.PHONY: run test prove-all check bench setup servers clean lock $(GROUPS)

run: servers
	@$(BIN)/tickstorm run first-run

# Every test but the slow ones that rarely break. What failed is played once more, alone, and listed. One group: make DRIVE
test: servers
	@$(BIN)/python tests/playing.py

$(GROUPS): servers
	@$(BIN)/python tests/playing.py $@

# Those, and every proof in full; slow, wants the machine to itself. Some of it: make prove-all ONLY="chaos burners"
prove-all: servers
	@$(BIN)/python tests/proving_all.py $(ONLY)

check: $(READY)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

# About ten minutes; wants the machine to itself. Rows by name: make bench ROWS="delivery-100 peer-picows"
bench: servers
	@$(BIN)/python -m benchmarks $(ROWS)

setup: $(READY)

servers: $(READY)
	@$(BIN)/python -m loadtests.stack.install

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Tickstorm needs Python 3.11, 3.12 or 3.13 on PATH (or: make PYTHON=/path/to/python)"; exit 2; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q loadtests proof reference_target lying_gateway
	@touch $@

lock:
	@uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q -o requirements.lock
	@uv pip compile benchmarks/requirements.in --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q -o benchmarks/requirements.lock

clean:
	@rm -rf $(VENV) .servers .stack .bench
