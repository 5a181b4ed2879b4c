"""Bookmarks: names of the states that a database has been in.

`minute-millisecond-seal-database`: when the state was seen (minutes since 1970, and milliseconds of that minute), the
number of the last sealed state before it (see `history`), and which database. Later bookmarks are greater as texts.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

_FORM = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{32})")
_MINUTE_MS = 60_000


@dataclass(frozen=True)
class Bookmark:
    time_ms: int
    """Milliseconds since 1970."""
    seal: int
    database: str
    """32 hex digits."""

    def __str__(self) -> str:
        minute, millisecond = divmod(self.time_ms, _MINUTE_MS)
        return f"{minute:08x}-{millisecond:08x}-{self.seal:08x}-{self.database}"


def parse(text: str) -> Bookmark | None:
    """The bookmark in a text, None if it is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    minute, millisecond, seal = (int(part, 16) for part in found.groups()[:3])
    return Bookmark(minute * _MINUTE_MS + millisecond, seal, found[4])


def database_id(directory: Path) -> str:
    """Which database a bookmark is of: from the names of its directory and its owner's, which are digests."""
    return hashlib.sha256("/".join(directory.parts[-3:]).encode("utf-8", "surrogatepass")).hexdigest()[:32]
