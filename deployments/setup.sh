#!/bin/sh
# Makes the environment: setup.sh PYTHON VENV LOCK. Uses uv where pip can bring it, else pip alone.
set -eu
python=$1 venv=$2 lock=$3
if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))'; then
    echo "found ${python:-no Python} that is not 3.11 or 3.12; to do: make PYTHON=/path/to/python3.12 ..." >&2
    exit 1
fi
# An environment of another Python is made anew.
if [ -d "$venv" ] && ! "$venv/bin/python" -c 'import sys' 2>/dev/null; then rm -rf "$venv"; fi
[ -d "$venv" ] || "$python" -m venv "$venv"
if ! command -v uv >/dev/null 2>&1 && [ ! -x "$venv/bin/uv" ]; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv || true
fi
uv=$(command -v uv || echo "$venv/bin/uv")
echo "installing $lock into $venv (once)"
if [ -x "$uv" ]; then
    VIRTUAL_ENV=$(cd "$venv" && pwd) "$uv" pip install --quiet --require-hashes -r "$lock"
    VIRTUAL_ENV=$(cd "$venv" && pwd) "$uv" pip install --quiet --no-deps --no-build-isolation -e .
else
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    "$venv/bin/python" -m compileall -q "$venv/lib" || true
fi
