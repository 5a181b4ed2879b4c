"""Small files that only their owner may read, there whole or not at all: keys, tokens, records."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def create_once(path: Path, text: str) -> None:
    """Writes a new file (mode 0600), on disk when this returns. One that is there already stays as it is.

    Blocks on the disk. Raises OSError. Of two processes that do this at once, the first one's text stands.
    """
    # A link and not a rename: it never replaces.
    with _draft(path, text.encode("ascii")) as draft, contextlib.suppress(FileExistsError):
        os.link(draft, path)
    _sync_directory(path.parent)


def replace(path: Path, content: bytes) -> None:
    """Writes a file (mode 0600) in place of the one that is there; on disk when this returns. Raises OSError."""
    with _draft(path, content) as draft:
        draft.rename(path)
    _sync_directory(path.parent)


@contextlib.contextmanager
def _draft(path: Path, content: bytes) -> Iterator[Path]:
    """A file beside `path` with the content, on disk; deleted at the end if it is still there."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def close_to_others(path: Path) -> None:
    """Takes everybody else's rights to the file away. Raises OSError."""
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
