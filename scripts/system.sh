#!/bin/sh
# What tests use beside Python packages: a browser with fonts for what pages show, and a C compiler for the load tools.
set -eu
missing=
need() { # need COMMAND PACKAGE…
    command -v "$1" >/dev/null && return
    shift
    missing="$missing $*"
}
need_font() { # need_font PATTERN PACKAGE: a font that fontconfig finds by the pattern
    [ -z "$(fc-list "$1" 2>/dev/null)" ] || return 0
    missing="$missing $2"
}
need chromium chromium
need gcc gcc libc6-dev
need curl curl
# Without these Chromium shows boxes in place of Korean text and emoji.
need_font :lang=ko fonts-noto-cjk
need_font :charset=1f30a fonts-noto-color-emoji
# shellcheck disable=SC2086
[ -z "$missing" ] || sh "$(dirname "$0")/apt.sh" $missing
