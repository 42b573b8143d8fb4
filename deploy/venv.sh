#!/bin/sh
# Make .venv with the Python given as $1. Debian keeps `venv` in a package of its own: as root it is
# installed here, otherwise this says what to do.
set -eu
python=$1
command -v "$python" >/dev/null || { echo "$python: not found. Install Python 3.11 or newer." >&2; exit 4; }
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || {
    echo "$python is $("$python" -V). Watchkeeper needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 ..." >&2
    exit 4
}
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "python$version-venv" >/dev/null
    else
        echo "$python has no venv module. Install it: sudo apt-get install python$version-venv" >&2
        exit 4
    fi
fi
"$python" -m venv .venv
