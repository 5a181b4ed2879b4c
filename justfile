set positional-arguments

export PATH := justfile_directory() / ".venv/bin:" + env("PATH")

# `build` and `deploy` run where they are called from; the data stays in one place.
export CLOISTER_DATA := env("CLOISTER_DATA", justfile_directory() / ".cloister")

# List the recipes
[private]
default:
    @just --list --unsorted

# Build and deploy the demo tenants and serve them on 127.0.0.1:8787
[no-exit-message]
serve *arguments: _ready
    @exec cloister serve --dispatcher examples/binding_dispatcher --deploy tenants/customer-worker-1 --deploy tenants/customer-worker-2 "$@"

# Run the tests, two files at a time
[no-exit-message]
test *arguments: _ready
    @exec python -m pytest --numprocesses 2 --dist loadscope "$@"

# Kill, cut off, damage and fill up in long loops, and print what was done (an hour and more)
[no-exit-message]
torture *arguments: _ready
    @exec python -m pytest tests/torture tests/hostile/test_uploads.py --full --timeout 3600 -n 0 "$@"

# Compare the bindings with Miniflare in 20,000 random operations each and more (PARITY_OPERATIONS); needs Node.js 20
[no-exit-message]
parity *arguments: _ready
    @PARITY_OPERATIONS="${PARITY_OPERATIONS:-20000}" exec python -m pytest tests/parity "$@"

# Measure beside bare aiohttp, workerd and Miniflare (--case NAME, --short, --smoke): see docs/performance.md
[no-exit-message]
bench *arguments: _ready
    @python -m benchmarks "$@"

# Check style, types and the arrows between the rooms
[no-exit-message]
check: _ready
    ruff check
    ruff format --check
    mypy runtime host_bindings guest_sdk
    lint-imports

# Put right what can be put right by itself
fix: _ready
    ruff check --fix
    ruff format

# Build a worker's directory into a component
[no-cd]
[no-exit-message]
build *arguments: _ready
    @exec cloister build "$@"

# Deploy a worker's directory or component
[no-cd]
[no-exit-message]
deploy *arguments: _ready
    @exec cloister deploy "$@"

# Write requirements.lock anew from pyproject.toml (needs uv)
lock:
    uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --extra dev --no-annotate --upgrade \
        --custom-compile-command "just lock" --output-file requirements.lock

# Delete what tools leave behind, and the environment; the data in .cloister stays
clean:
    rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
    find . -name __pycache__ -type d -not -path './node_modules/*' -prune -exec rm -rf {} +

_ready:
    @./just --prepare
