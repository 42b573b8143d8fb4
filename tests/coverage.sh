#!/bin/sh
# Branch coverage of the pure cores, with the kernels run as plain Python so that their lines count.
set -eu
export NUMBA_DISABLE_JIT=1
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
export COVERAGE_FILE="$data/coverage"
.venv/bin/python -m coverage run --branch --source=pipeline/detect,pipeline/promql,pipeline/rules,pipeline/alerts \
    -m pytest -q --no-header -p no:cacheprovider -m "not parts" \
    tests/detect tests/promql tests/rules tests/alerts >"$data/log" 2>&1 || { cat "$data/log"; exit 1; }
.venv/bin/python -m coverage report --skip-covered --fail-under=95
