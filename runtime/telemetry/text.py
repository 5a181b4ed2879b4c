"""Making text that tenants and callers chose harmless in a log: it can neither forge a line nor steer a terminal."""

from __future__ import annotations

import re

# Control characters, direction marks and overrides, line and paragraph separators, byte order mark, lone surrogates.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def harmless(text: str) -> str:
    """The text on one line, with each control character as its escape sequence."""
    if text.isprintable():
        return text
    return _HARMFUL.sub(_escape, text)


def harmless_lines(text: str, indent: str = "    ") -> str:
    """The text with its line breaks kept; every line but the first is indented, so none passes for an entry."""
    if text.isprintable():
        return text
    return ("\n" + indent).join(harmless(line) for line in text.replace("\t", "    ").split("\n"))


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character) or (
        f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
    )
