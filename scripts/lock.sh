#!/bin/sh
# Resolves pyproject.toml anew into lock/run.txt and lock/test.txt, and the package-lock.json of the TypeScript client. Names versions only, never where they came from.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
pip="$dir/venv/bin/pip --disable-pip-version-check"

freeze() { # freeze FILE WHAT-FOR
    echo "# The tested versions of everything that is needed to $2. Made by \`make lock\`." >"$1"
    $pip freeze --exclude-editable >>"$1"
}

$pip install --quiet hatchling editables
$pip install --quiet --no-build-isolation -e '.[server,docs]'
freeze lock/run.txt serve
$pip install --quiet --upgrade pip
$pip install --quiet --group test --group bench
freeze lock/test.txt "test, check and measure"

npm update --prefix tests/clients --package-lock-only --ignore-scripts --no-audit --no-fund
npm update --prefix clients/ts --package-lock-only --ignore-scripts --no-audit --no-fund
