#!/bin/sh
# install.sh VENV LOCK: a virtual environment with the locked versions and this project in it.
set -eu
venv=$1
lock=$2

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "yeoul needs Python 3.11 or newer as python3 (or PYTHON=/path/to/python make …)" >&2
    exit 1
}

if [ ! -x "$venv/bin/pip" ]; then
    echo "making $venv …"
    # Debian keeps ensurepip in a package of its own.
    "$python" -m venv "$venv" 2>/dev/null || {
        sh "$(dirname "$0")/apt.sh" python3-venv
        "$python" -m venv "$venv"
    }
fi
echo "installing what $lock names …"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$lock"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
