"""npm packages as a `package-lock.json` pins them, installed once into the user's cache folder.

workerd and Miniflare (`peers`): the benchmark measures against them, and tests/parity compares with them. wrangler:
tests/clients drives it against the management API.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
NODE_MAJOR_MIN = 20

_MANIFEST = ("package.json", "package-lock.json")


def missing() -> str | None:
    """What stands in the way of running Node's packages here, as a sentence's beginning; None if nothing does."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return f"Node.js {NODE_MAJOR_MIN} and npm are not installed"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_MAJOR_MIN:
        return f"Node.js is {version}, and {NODE_MAJOR_MIN} is needed"
    return None


def installed(manifests: Path = PEERS) -> Path:
    """A folder whose node_modules has what the manifests name: without any, workerd and Miniflare.

    Raises RuntimeError with what npm said if it failed.
    """
    state = hashlib.sha256(b"\0".join((manifests / name).read_bytes() for name in _MANIFEST))
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cloister" / manifests.name
    found = base / state.hexdigest()[:24]
    if not found.exists():
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            for name in _MANIFEST:
                shutil.copy(manifests / name, made)
            _run_npm(made)
            try:
                made.rename(found)
            except OSError:
                # Another process was quicker.
                if not found.exists():
                    raise
    return found


def _run_npm(directory: Path) -> None:
    command = ["npm", "ci", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"npm could not install the packages:\n{done.stdout}{done.stderr}"[-4000:])
