"""Which code was measured: servers start from the working tree, which may change while a run goes on."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
MEASURED = ("runtime", "host_bindings", "guest_sdk", "examples", "tenants")


def revision() -> str:
    """The commit, with `+` if the working tree differs from it; empty where there is no git."""
    try:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        changes = subprocess.run(["git", "status", "--porcelain", *MEASURED], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return ""
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "")


def code_digest() -> str:
    """Names the code under test as it is now."""
    state = hashlib.sha256()
    for folder in MEASURED:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".wit", ".jsonc") and path.is_file():
                data = path.read_bytes()
                state.update(f"\0{path.relative_to(ROOT)}\0{len(data)}\0".encode() + data)
    return state.hexdigest()[:12]
