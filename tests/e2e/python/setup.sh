#!/bin/sh
# Makes the Python environment that the end-to-end tests run the official SDKs in. Safe to run again.
#
#   tests/e2e/python/setup.sh [FOLDER]     default: target/test-venv
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
venv=${1:-$here/../../../target/test-venv}

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
echo "$venv/bin/python"
