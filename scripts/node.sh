#!/bin/sh
# node.sh FOLDER: installs the locked npm packages of the folder, for the tests of the TypeScript client. The server does not need Node.
set -eu
folder=$1
least=20

command -v node >/dev/null && command -v npm >/dev/null || sh "$(dirname "$0")/apt.sh" nodejs npm || {
    echo "the tests of the TypeScript client need Node $least or newer, and npm" >&2
    exit 1
}
node -e "process.exitCode = parseInt(process.versions.node) < $least ? 1 : 0" || {
    echo "the tests of the TypeScript client need Node $least or newer; this is $(node --version): install a newer one (nodejs.org), then run this again" >&2
    exit 1
}
echo "installing the packages of $folder/package-lock.json …"
# Without install scripts: none of these packages needs one.
npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error
