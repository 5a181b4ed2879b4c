"""Directories whose entries are on disk before anyone relies on them. Everything here blocks."""

from __future__ import annotations

import os
from pathlib import Path


def make_directory(path: Path) -> None:
    """Makes `path` and what is missing above it, for this user alone, each entry synced in its parent."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        # Another process may be faster, but only this one knows that it will sync the entry in time.
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)


def sync_directory(path: Path) -> None:
    """Returns when the directory's entries are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
