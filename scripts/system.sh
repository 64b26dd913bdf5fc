#!/bin/sh
# What tests use beside Python packages: a browser, and a C compiler for the load tools.
set -eu
missing=
need() { # need COMMAND PACKAGE…
    command -v "$1" >/dev/null && return
    shift
    missing="$missing $*"
}
need chromium chromium
need gcc gcc libc6-dev
need curl curl
# shellcheck disable=SC2086
[ -z "$missing" ] || sh "$(dirname "$0")/apt.sh" $missing
