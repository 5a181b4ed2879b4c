"""Order and ranges of keys as bytes, and the cursors of listings."""

from __future__ import annotations

import base64
import re


def after_prefix(prefix: bytes) -> bytes | None:
    """The first byte string, in byte order, after all that begin with `prefix`; None if there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


def after_key(key: bytes) -> bytes:
    """The first byte string, in byte order, after `key`."""
    return key + b"\0"


def encode_cursor(start: bytes | None) -> str | None:
    """The cursor of a listing that goes on at `start`."""
    return None if start is None else base64.b64encode(start).decode()


def decode_cursor(cursor: str) -> bytes:
    """Where a listing goes on. A cursor that was not made here is no error: it leads wherever it leads."""
    letters = re.sub("[^A-Za-z0-9+/]", "", cursor)
    if len(letters) % 4 == 1:
        letters = letters[:-1]
    return base64.b64decode(letters + "=" * (-len(letters) % 4))
