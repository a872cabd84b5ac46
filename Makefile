# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The interpreter for .venv, 3.11 or newer, as in: make PYTHON=python3.13 demo
export PYTHON ?= python3

BIN := .venv/bin
DEMO := PYTHONPATH=examples $(BIN)/python -m demo

.PHONY: help venv venv-demo venv-tests demo demo-stop lint lint-ansible types units check test test-full bench sanity docs build

help:
	@echo 'make venv       .venv with pinned wheels, everything that ansible-playbook needs'
	@echo 'make demo       a real application deploys, breaks and comes back, on this machine'
	@echo 'make demo-stop  removes every process and file of the demo'
	@echo 'make check      lint, types, units'
	@echo 'make test       every kind of test, with few rounds'
	@echo 'make test-full  the same tests, with the counts that issues name'
	@echo 'make bench      benchmarks at full size'
	@echo 'make sanity     ansible-test sanity, with each ansible-core and Python found'
	@echo 'make docs       docs/modules from the documentation of the modules'
	@echo 'make build      the collection as a tarball in dist/'

venv:
	@tests/bin/make-venv .venv runtime

venv-demo:
	@tests/bin/make-venv .venv runtime demo

venv-tests:
	@tests/bin/make-venv .venv runtime demo upload test lint

demo: venv-demo
	@$(DEMO) run

# Works with what is there: a demo that stands was made by an environment that stands.
demo-stop:
	@if [ -x $(BIN)/python ]; then $(DEMO) stop; else echo 'There is no .venv, so no demo was started from here.'; fi

lint: venv-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/yamllint --strict .
	$(BIN)/antsibull-changelog lint

# The slow one of the linters; make check runs it beside the others.
lint-ansible: venv-tests
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint -q

types: venv-tests
	$(BIN)/mypy -p ansible_collections.lastro.deploy.plugins
	$(BIN)/mypy examples/demo tests tests/bin/generate-docs

units: venv-tests
	$(BIN)/pytest -q tests/unit

check: venv-tests
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint-ansible lint types units

test: venv-tests
	@tests/bin/install-clients
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint-ansible lint types
	@tests/bin/sanity
	@tests/bin/run-tests

test-full: venv-tests
	@LASTRO_FULL=1 $(MAKE) --no-print-directory test

bench: venv-tests
	LASTRO_FULL=1 $(BIN)/pytest -q --capture=no tests/bench

sanity: venv-tests
	@tests/bin/sanity

docs: venv-tests
	$(BIN)/python tests/bin/generate-docs docs/modules

build: venv
	$(BIN)/ansible-galaxy collection build --force --output-path dist
