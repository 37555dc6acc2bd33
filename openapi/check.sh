#!/bin/sh
# Checks the OpenAPI documents with a validator that is not ours (openapi-spec-validator of PyPI).
set -eu
cd "$(dirname "$0")/.."
venv="${CARGO_TARGET_DIR:-target}/openapi-venv"
if [ ! -x "$venv/bin/openapi-spec-validator" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "openapi-spec-validator==0.9.0"
fi
"$venv/bin/openapi-spec-validator" openapi/partner.json openapi/plaid.json
