#!/bin/sh
# Install what the lock file $1 pins, and this project, into .venv. uv does it in seconds; where it
# can't (a registry that only pip is set up for), pip does it in a minute or two. Byte code is written
# now: a start loads some thousand modules, and with it takes a third of the time.
set -eu
lock=$1
python=.venv/bin/python
pip() { $python -m pip install -q --disable-pip-version-check "$@"; }
uv() { .venv/bin/uv pip install -q --python $python --compile-bytecode "$@"; }
[ -x .venv/bin/uv ] || pip --require-hashes -r requirements/uv.lock
if uv --require-hashes -r "$lock"; then
    uv --no-deps -e .
else
    pip --require-hashes -r "$lock"
    pip --no-deps -e .
fi
$python -m compileall -q pipeline
