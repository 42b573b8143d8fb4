#!/bin/sh
# Everything about the code that can be checked without running it, then the branch coverage of the
# pure cores. Each step prints its name, so that a failure says where it is.
set -eu
cd "$(dirname "$0")/.."
bin=.venv/bin
step() { echo "check: $1"; shift; "$@"; }

step "format" $bin/ruff format --check -q pipeline tests benchmarks
step "lint" $bin/ruff check -q pipeline tests benchmarks
step "types" $bin/mypy
step "layers" $bin/lint-imports --no-logo
step "dead code" $bin/vulture
step "dependencies" $bin/deptry pipeline
step "security" $bin/bandit -q -c pyproject.toml -r pipeline
if [ "${WATCHKEEPER_NO_AUDIT:-}" != 1 ]; then
    step "known vulnerabilities" sh tests/audit.sh
fi
step "coverage of the cores" sh tests/coverage.sh
