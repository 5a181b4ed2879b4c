"""Keys that have broken stores, and a clock that tests set."""

from __future__ import annotations

HOSTILE_KEYS = (
    "\0",
    "a\0b",
    "..",
    "../../etc/passwd",
    "/absolute",
    "a//b",
    "%2F",
    "%",
    "_",
    "\\",
    "'; DROP TABLE entries; --",
    "\u00e9",
    "e\u0301",
    "CASE",
    "case",
    "\ufffd",
    "😀",
    "\U0010ffff",
    "x" * 512,
    "trailing.",
    "trailing ",
    "\u202eright to left",
)
"""Among them one letter composed and decomposed: two keys."""


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
