#!/bin/sh
# Writes the lock files anew from what is declared: exact versions and hashes, for Linux and macOS, no index named inside.
# With --upgrade everything moves to its newest version; without, what is pinned stays where it can.
set -eu
cd "$(dirname -- "$0")/../.."

compile() {
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        "$@"
}

# The tests' lock first: it holds all packages, and what the services get must be the very versions that were tested.
compile pyproject.toml --group setup --extra dev --extra mcp --output-file tests/requirements.lock "$@"
compile pyproject.toml --group setup --constraints tests/requirements.lock --output-file requirements.lock "$@"
# Clients of other people that the tests try, in an environment of their own.
compile tests/compat/clients/requirements.in --output-file tests/compat/clients/requirements.lock "$@"
# A model server that is not ours, in another one.
compile tests/compat/llama_cpp/requirements.in --output-file tests/compat/llama_cpp/requirements.lock "$@"
