#!/bin/sh
# Writes both lock files anew from pyproject.toml: exact versions and hashes, for Linux and macOS, no index named inside.
# With --upgrade everything moves to its newest version; without, what is pinned stays where it can.
set -eu
cd "$(dirname -- "$0")/../.."

compile() {
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        pyproject.toml --group setup "$@"
}

# The tests' lock first: it holds all packages, and what the services get must be the very versions that were tested.
compile --extra dev --output-file tests/requirements.lock "$@"
compile --constraints tests/requirements.lock --output-file requirements.lock "$@"
