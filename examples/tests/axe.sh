#!/bin/sh
# Installs axe-core from the npm registry into the folder of the browser tests.
set -eu
folder="${CARGO_TARGET_DIR:-$(dirname "$0")/../../target}/axe"
[ -f "$folder/node_modules/axe-core/axe.min.js" ] && exit 0
if ! command -v npm >/dev/null; then
    echo "npm is missing: install Node.js" >&2
    exit 1
fi
mkdir -p "$folder"
npm install --prefix "$folder" --no-save --no-audit --no-fund --silent axe-core@4
