"""SQL text before SQLite sees it: what holds a statement and what does not, by D1's rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TextIO

import apsw

from host_bindings.d1.errors import RequestRefused

# Atomic groups: hostile text must not make the search try every way to divide it into comments.
_BLANK = re.compile(r"(?>[ \t\n\f\r;]|--[^\n]*(?:\n|\Z)|/\*(?>.*?\*/|.*\Z))*+\Z", re.DOTALL)


def is_blank(sql: str, start: int = 0) -> bool:
    """Whether no statement begins at or after `start`."""
    return _BLANK.match(sql, start) is not None


def is_left_out(sql: str) -> bool:
    """Whether D1 passes over the text as if it were not there: it has nothing but white space and comments, each of
    these behind white space (D1 looks for `^\\s+--.*`)."""
    blank_before = False
    for line in sql.split("\n"):
        text = line.lstrip()
        if text and not (text.startswith("--") and (blank_before or len(text) < len(line))):
            return False
        blank_before = not text
    return True


def statements(text: TextIO, characters_max: int) -> Iterator[str]:
    """The statements of a long text, each as long as at most `characters_max`; several may come as one if they share
    a line. Raises `RequestRefused` for a longer one."""
    pieces: list[str] = []
    size = 0
    while line := text.readline(characters_max + 1):
        pieces.append(line)
        size += len(line)
        if size > characters_max:
            raise RequestRefused("statement too long: SQLITE_TOOBIG")
        # Only a semicolon can end a statement; whether it does costs reading all of it.
        if ";" in line and apsw.complete(found := "".join(pieces)):
            yield found
            pieces, size = [], 0
    if not is_blank(rest := "".join(pieces)):
        yield rest
