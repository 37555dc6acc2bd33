#!/bin/sh
# Installs the identity provider `oidc-provider` from the npm registry in the folder that the tests use.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
folder="${CARGO_TARGET_DIR:-$here/../../../target}/oidc-provider"
cmp -s "$here/package-lock.json" "$folder/package-lock.json" && [ -f "$folder/done" ] && exit 0
if ! command -v npm >/dev/null; then
    echo "npm is missing: install Node.js" >&2
    exit 1
fi
mkdir -p "$folder"
rm -f "$folder/done"
cp "$here/package.json" "$here/package-lock.json" "$folder/"
npm ci --prefix "$folder" --no-audit --no-fund --silent
: >"$folder/done"
