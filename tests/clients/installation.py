"""Clients that are no dependency of ours, installed once into the user's cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

OLD_SDK = "cloudflare==4.3.1"

WRANGLER = Path(__file__).parent / "wrangler"
"""A package.json and its lock file: the version of wrangler."""


def old_sdk() -> Path:
    """A folder to import version 4 of the client from; its dependencies are those of the installed one."""
    found = _cache() / OLD_SDK.replace("==", "-")
    if not found.exists():
        with tempfile.TemporaryDirectory(dir=found.parent) as scratch:
            made = Path(scratch) / "made"
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(made), OLD_SDK]
            subprocess.run(command, check=True, capture_output=True)
            _put(made, found)
    return found


def _cache() -> Path:
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cloister" / "clients"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _put(made: Path, target: Path) -> None:
    try:
        made.rename(target)
    except OSError:
        # Another process was quicker.
        if not target.exists():
            raise
