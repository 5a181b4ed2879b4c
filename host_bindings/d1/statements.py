"""Dividing a script into its statements, by the rules of SQLite's `sqlite3_complete`, in time linear to its length."""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(
    r"""
    (?P<semi>;)
  | (?P<blank>[ \t\n\f\r]+ | --[^\n]* | /\*(?:[^*]|\*(?!/))*+(?:\*/|\Z))
  | (?P<word>[A-Za-z_$\x80-\U0010ffff][0-9A-Za-z_$\x80-\U0010ffff]*)
  | (?P<other>'[^']*(?:'|\Z) | "[^"]*(?:"|\Z) | `[^`]*(?:`|\Z) | \[[^\]]*(?:\]|\Z) | .)
    """,
    re.VERBOSE | re.DOTALL,
)

_KINDS = ("semi", "blank", "other", "explain", "create", "temp", "trigger", "end")
_WORDS = {"explain": 3, "create": 4, "temp": 5, "temporary": 5, "trigger": 6, "end": 7}

_START, _NORMAL, _EXPLAIN, _CREATE, _TRIGGER, _SEMI, _END = range(7)

_NEXT: Mapping[int, tuple[int, ...]] = {
    _START: (_START, _START, _NORMAL, _EXPLAIN, _CREATE, _NORMAL, _NORMAL, _NORMAL),
    _NORMAL: (_START, _NORMAL, _NORMAL, _NORMAL, _NORMAL, _NORMAL, _NORMAL, _NORMAL),
    _EXPLAIN: (_START, _EXPLAIN, _EXPLAIN, _NORMAL, _CREATE, _NORMAL, _NORMAL, _NORMAL),
    _CREATE: (_START, _CREATE, _NORMAL, _NORMAL, _NORMAL, _CREATE, _TRIGGER, _NORMAL),
    _TRIGGER: (_SEMI, _TRIGGER, _TRIGGER, _TRIGGER, _TRIGGER, _TRIGGER, _TRIGGER, _TRIGGER),
    _SEMI: (_SEMI, _SEMI, _TRIGGER, _TRIGGER, _TRIGGER, _TRIGGER, _TRIGGER, _END),
    _END: (_START, _END, _TRIGGER, _TRIGGER, _TRIGGER, _TRIGGER, _TRIGGER, _TRIGGER),
}
"""The transitions of SQLite's complete.c, by the kind of the token."""


def split_statements(sql: str) -> list[str]:
    """The statements of a script, each with its semicolon if it has one. What has only blanks and comments is none."""
    statements = []
    state, start = _START, 0
    for token in _TOKEN.finditer(sql):
        name = str(token.lastgroup)
        kind = _WORDS.get(token[0].lower(), 2) if name == "word" else _KINDS.index(name)
        before, state = state, _NEXT[state][kind]
        if kind == 0 and state == _START:
            if before != _START:
                statements.append(sql[start : token.end()].strip())
            start = token.end()
    if state != _START:
        statements.append(sql[start:].strip())
    return statements
