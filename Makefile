# make demo   a scratch repository with a dozen work units on a live dashboard
# make test   the linter and the whole test suite
# make lint, make docs (writes the generated pages again), make bench, make clean
#
# Each sets up its own environment in .venv first. PYTHON names the interpreter to make it with.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint docs bench clean

MODERN := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$name >/dev/null 2>&1 && $$name -c '$(MODERN)' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
READY := .venv/.ready
READY_TO_TEST := .venv/.ready-to-test

help:
	@sed -n 's/^# //p' Makefile | head -3

demo: $(READY)
	@$(BIN)/orch demo

test: $(READY_TO_TEST)
	$(BIN)/ruff check .
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile || { code=$$?; test $$code = 1 || exit $$code; \
		echo "Once more, alone: what fails again is broken; what passes now depends on the machine's load, and is to be mended"; \
		$(BIN)/python -m pytest -v --last-failed --last-failed-no-failures none; }

lint: $(READY_TO_TEST)
	$(BIN)/ruff check .

docs: $(READY)
	$(BIN)/python -m orchestrator_app.states > docs/state-machine.md
	$(BIN)/python -m orchestrator_app.settings_table > docs/settings.md
	$(BIN)/python -m orchestrator_app.api > docs/api.md
	$(BIN)/python -m orchestrator_app.cli.docs > docs/cli.md
	$(BIN)/python -m tests.rows > docs/faults.md

bench: $(READY_TO_TEST)
	$(BIN)/python benchmarks/dispatch.py
	$(BIN)/python benchmarks/feed.py
	$(BIN)/python benchmarks/api.py
	$(BIN)/python benchmarks/start_up.py

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	@command -v git >/dev/null 2>&1 || { echo "git is missing: install it (on Debian: apt install git), then run make again" >&2; exit 1; }
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is missing: install it, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c '$(MODERN)' || { echo "$(PYTHON) is not Python 3.11 or newer: name another: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing: install it (on Debian: apt install python3-venv), then run make again" >&2; exit 1; }
	@$(BIN)/python -c 'import pip' 2>/dev/null || { echo "Making .venv with $(PYTHON)"; rm -rf .venv; $(PYTHON) -m venv .venv; }
	@echo "Installing what it needs into .venv (once; takes a minute or two)"
	@$(PIP) install --constraint constraints.txt --editable . || { echo "the packages can't be installed: see above; is there a network?" >&2; exit 1; }
	@touch $@

$(READY_TO_TEST): $(READY)
	@echo "Installing what the tests need into .venv (once)"
	@$(PIP) install --constraint constraints.txt --editable '.[test]' || { echo "the packages can't be installed: see above; is there a network?" >&2; exit 1; }
	@touch $@
