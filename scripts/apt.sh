#!/bin/sh
# apt.sh PACKAGE…: installs Debian packages, as root or by sudo, or says what to install.
set -eu
if ! command -v apt-get >/dev/null; then
    echo "please install: $*" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "please install, as root: apt-get install $*" >&2
        exit 1
    }
    as_root=sudo
fi
echo "installing $* …"
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$@" >/dev/null
