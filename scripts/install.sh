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
    echo "creating the virtual environment $venv …"
    # Debian keeps ensurepip in a package of its own.
    "$python" -m venv "$venv" 2>/dev/null || {
        sh "$(dirname "$0")/apt.sh" python3-venv
        "$python" -m venv "$venv"
    }
fi

total=$(grep -c '==' "$lock")
echo "installing the $total packages of $lock into $venv (up to a minute the first time) …"
terminal=0
[ ! -t 1 ] || terminal=1
# pip names each package as it fetches it, then is silent while it installs all of them. Its errors go to stderr as they
# are; its exit code is the last line, since the code of a pipe is that of its end.
{
    code=0
    "$venv/bin/pip" install --disable-pip-version-check --progress-bar off -r "$lock" || code=$?
    echo "exit $code"
} | awk -v total="$total" -v terminal="$terminal" '
    function say(text) {
        if (terminal) printf "\r\033[K  %s", text
        else print "  " text
        fflush()
    }
    # A package that is needed by two others is named twice.
    /^(Collecting|Requirement already satisfied:) / {
        name = tolower($1 == "Collecting" ? $2 : $4)
        sub(/[=<>~!\[;(].*/, "", name)
        if (name in seen || ++count > total) next
        seen[name] = 1
        if (terminal || count % 20 == 0) say(count " of " total ": " name)
    }
    /^Installing collected packages/ { say("all fetched, writing them to the disk …") }
    /^exit / { code = $2 }
    END {
        if (terminal) printf "\r\033[K"
        exit code
    }
'
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
