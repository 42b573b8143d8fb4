# `make up` and `make test` work on a fresh Debian or Ubuntu with Python 3.11+ and make.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: up test check bench mutants lock parts clean help

help:  ## What can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

up: .venv/up  ## Install what is pinned and start everything on this machine
	@$(BIN)/watchkeeper up

test: .venv/dev parts  ## Install what the tests need and run them all
	@$(BIN)/python -m pytest $(ARGS)

check: .venv/dev  ## Style, types, layers, dead code, dependencies, security, coverage of the cores
	@sh tests/check.sh

bench: .venv/dev  ## Every benchmark, one after the other
	@for program in spike collect latency throughput; do \
		echo "== benchmarks/$$program.py"; $(BIN)/python benchmarks/$$program.py || exit 1; done

mutants: .venv/dev  ## Change 200 sampled lines of the cores and see whether the tests notice
	@$(BIN)/python tests/mutants.py

lock: .venv/dev  ## Pin the newest versions that fit pyproject.toml
	@$(BIN)/uv pip compile pyproject.toml --extra local --extra dev --universal --upgrade \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o requirements/dev.lock
	@$(BIN)/uv pip compile pyproject.toml --extra local --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header -q -c requirements/dev.lock -o requirements/up.lock
	@grep -m1 -oE '^uv==[0-9.]+' requirements/dev.lock | $(BIN)/uv pip compile - --universal --no-annotate \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o requirements/uv.lock

parts:  ## The real programs that tests run against (installed from Debian when root)
	@sh tests/parts.sh

clean:  ## Remove the virtual environment and the data folder
	rm -rf .venv data build

.venv/python:
	@sh deploy/venv.sh "$(PYTHON)"
	@touch $@

.venv/up: .venv/python requirements/up.lock pyproject.toml
	@echo "Installing the pinned packages into .venv (once) ..."
	@sh deploy/install.sh requirements/up.lock
	@touch $@

.venv/dev: .venv/python requirements/dev.lock pyproject.toml
	@echo "Installing the pinned packages and the tools of development into .venv (once) ..."
	@sh deploy/install.sh requirements/dev.lock
	@touch $@ .venv/up
