"""Small files that only their owner may read: keys and tokens, made once and never changed."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def create_once(path: Path, text: str) -> None:
    """Writes a new file (mode 0600), on disk when this returns. One that is there already stays as it is.

    Blocks on the disk. Raises OSError. Of two processes that do this at once, the first one's text stands.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        # A link and not a rename: it never replaces.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def close_to_others(path: Path) -> None:
    """Takes everybody else's rights to the file away. Raises OSError."""
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
