# `make help` lists what can be done. Everything runs from .venv, which `make setup` makes from nothing.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
INSTALLED := .venv/.installed
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore

# Any Python from 3.11 on will do; `make setup PYTHON=…` chooses.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# Each worker of pytest has a PostgreSQL of its own: four, for the longest tests wait most of their time; two on one processor.
WORKERS ?= $(shell cpus=$$(nproc 2>/dev/null || echo 2); echo $$((cpus < 2 ? 2 : 4)))

# The tests start hundreds of processes: each would compile everything anew where the environment forbids to keep it.
test test-matrix coverage model sweep chaos mutants: export PYTHONDONTWRITEBYTECODE =

# What `make test-matrix` runs on: all majors that can be had here, or the ones named.
MAJORS ?=

# What `make chaos` runs.
SEEDS ?= 1..20
ROWS ?= 60

# From the roles on, a migration that is a transaction fixes its search_path: a superuser may be running it.
SAFE = $$(ls db/migrations/[0-9]*.sql | grep -v -e '\.rollback\.' -e '/00[0-3]' -e '/004[0-6]' | xargs grep -L '^-- transactional: false')

# PS002, PS012, PS014 and PS015 are about CREATE OR REPLACE and IF NOT EXISTS where others may create, too: nobody may in schema
# marketplace. The bodies of functions, in which pgspot cannot read a variable of a row's type, pin their search_path.
PGSPOT = .venv/bin/pgspot --ignore PS002 --ignore PS012 --ignore PS014 --ignore PS015

MIGRATIONS = grep -$(1) '^-- transactional: false' db/migrations/[0-9]*.sql | grep -v '\.rollback\.sql$$'

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: $(INSTALLED) ## Make .venv with everything a checkout needs
	@:

$(INSTALLED): requirements.txt pyproject.toml
	@test -n '$(PYTHON)' || { echo 'make setup: needs Python 3.11 or newer (Debian: apt-get install python3 python3-venv)' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'make setup: $(PYTHON) cannot make environments (Debian: apt-get install python3-venv)' >&2; exit 1; }
	@echo 'setting up .venv (half a minute or so)'
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(INSTALL) --require-hashes -r requirements.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: demo
demo: setup ## See it work: embedded PostgreSQL, a stand-in for Stripe, payouts, refunds, disputes
	@$(PY) -m runner demo $(ARGS)

.PHONY: psql
psql: setup ## Open the database that the demo left
	@$(PY) -m runner.sandbox.psql $(ARGS)

.PHONY: migrate
migrate: setup ## Bring the database at DATABASE_URL up to this release
	@$(PY) -m runner migrate $(ARGS)

.PHONY: run
run: setup ## Run one runner on DATABASE_URL with STRIPE_API_KEY, until Ctrl-C
	@$(PY) -m runner run $(ARGS)

.PHONY: test
test: setup ## Run the tests (ARGS='-k lease -x')
	@$(PY) -m pytest -n $(WORKERS) $(ARGS)

.PHONY: test-matrix
test-matrix: setup ## Run them on PostgreSQL 14 to 18, as far as they can be had (MAJORS='14 18')
	@$(PY) -m tests.matrix --majors '$(MAJORS)' -- -q -n $(WORKERS) $(ARGS)

.PHONY: coverage
coverage: setup ## Run the tests, and show which statements and branches of db/functions they execute
	@rm -rf .coverage-plpgsql
	@$(PY) -m pytest -n $(WORKERS) --plpgsql-coverage=.coverage-plpgsql $(ARGS)
	@$(PY) -m tests.support.plpgsql_coverage .coverage-plpgsql

.PHONY: chaos
chaos: setup ## Break everything at random and compare the books (SEEDS=1..20 ROWS=60)
	@$(PY) -m tests.chaos --seeds $(SEEDS) --rows $(ROWS) $(ARGS)

# What `make failover` runs.
FAILOVERS ?= 1..10

.PHONY: failover
failover: setup ## Have a standby that is behind take over at random, and compare the books (FAILOVERS=1..10)
	@$(PY) -m tests.failover --seeds $(FAILOVERS) $(ARGS)

# The searches whose worlds are too large for every `make test`, and each rollback compared alone.
LONG = $(PY) -m pytest -n $(WORKERS) --hypothesis-profile=long

.PHONY: model
model: setup ## Search the whole model, and compare the schema around every migration
	@$(LONG) tests/test_exhaustive_model.py tests/test_exhaustive_sends.py tests/test_migrations.py $(ARGS)

.PHONY: sweep
sweep: setup ## Kill runners at every point of a call with every answer of Stripe's
	@$(LONG) tests/test_crash_points.py $(ARGS)

.PHONY: check
check: setup ## Lint and type-check Python, SQL, migrations and PL/pgSQL
	@echo 'ruff' && $(PY) -m ruff check --quiet && $(PY) -m ruff format --check --quiet
	@echo 'mypy' && $(PY) -m mypy --no-error-summary
	@echo 'sqlfluff' && .venv/bin/sqlfluff lint --quiet --disable-progress-bar db
	@echo 'squawk' && $(call MIGRATIONS,L) | xargs -r .venv/bin/squawk --reporter gcc --assume-in-transaction
	@$(call MIGRATIONS,l) | xargs -r .venv/bin/squawk --reporter gcc
	@echo 'pgspot' && echo 'set search_path = pg_catalog, pg_temp;' >.venv/loader.sql
	@found=$$($(PGSPOT) --no-plpgsql --append .venv/loader.sql db/functions/*.sql) || { echo "$$found"; exit 1; }
	@found=$$($(PGSPOT) $(SAFE)) || { echo "$$found"; exit 1; }
	@$(PY) -m tests.support.debian_postgres

.PHONY: mutants
mutants: setup ## Put bugs into the code, one at a time: the tests must see each (ARGS='--only no-look-up')
	@$(PY) -m tests.mutants $(ARGS)

.PHONY: bench
bench: setup ## Run the benchmarks, one after the other
	@for file in tests/benchmarks/bench_*.py; do \
		test -e "$$file" || continue; \
		name=$$(basename "$$file" .py); echo "$$name"; $(PY) -m "tests.benchmarks.$$name" || exit 1; \
	done

.PHONY: docs
docs: setup ## Write the generated parts of the README anew
	@$(PY) -m tests.support.readme --write

.PHONY: snapshot
snapshot: setup ## Write the listing of the schema that tests compare with anew
	@$(PY) -m tests.support.schema_listing --write

.PHONY: released
released: setup ## Note what a release is made of; once, when it is made
	@$(PY) -m tests.support.released

.PHONY: pins
pins: ## Compile requirements.txt anew (needs uv; ARGS=--upgrade for newer versions)
	@command -v uv >/dev/null || { echo 'make pins: needs uv, https://docs.astral.sh/uv/' >&2; exit 1; }
	@uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header --no-annotate \
		$(ARGS) -o requirements.txt requirements.in

.PHONY: clean
clean: ## Remove caches, builds and the demo's database (not .venv)
	@for link in .sandbox/*; do \
		target=$$(readlink "$$link") || continue; \
		case $$target in /var/tmp/seller-transfers-data-*) rm -rf "$$target" ;; esac; \
	done
	@rm -rf .cache .coverage-plpgsql .sandbox .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	@find runner tests db -type d -name __pycache__ -prune -exec rm -rf {} +
