"""A JSON array of many items, read item by item as it arrives: neither all of its text is held nor parsed at once."""

from __future__ import annotations

import re
from collections.abc import Iterator

MARKS_MAX = 4096
"""Brackets, commas and strings in one item: more than any item that is taken has."""

_MARK = re.compile(rb'["\[\]{},]')
_REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_BLANK = re.compile(rb"[ \t\r\n]*+")

_QUOTE, _OPENING, _CLOSING, _COMMA = b'"', b"[{", b"]}", b","


class JsonItems:
    """Cuts the text of an array into that of its items, without looking into them. Raises ValueError if it is none."""

    def __init__(self) -> None:
        self._text = bytearray()
        """From the beginning of the present item on."""
        self._position = 0
        """How far that has been looked at."""
        self._depth = 0
        self._in_string = False
        self._marks = 0
        self._cut = 0
        self._ended = False

    def feed(self, piece: bytes) -> Iterator[bytearray]:
        """The items that end in this piece of the text, with the white space around them."""
        self._text += piece
        while not self._ended and (mark := self._next_mark()):
            if mark in _OPENING:
                self._depth += 1
                if self._depth == 1:
                    self._begin(mark)
            elif mark in _CLOSING:
                self._depth -= 1
                if self._depth == 0:
                    if mark != b"]":
                        raise ValueError("it is not an array")
                    self._ended = True
                    item = self._take()
                    if self._cut or not _is_blank(item):
                        yield item
            elif mark == _COMMA and self._depth == 1:
                self._cut += 1
                yield self._take()
            elif self._depth == 0:
                raise ValueError("it is not an array")
        if self._ended and not _is_blank(self._text):
            raise ValueError("there is something after the array")

    def finish(self) -> None:
        """Raises ValueError if the array has not ended."""
        if not self._ended:
            raise ValueError("it is not a whole array")

    def _next_mark(self) -> bytes:
        """The next bracket, comma or stray quote, which has then been looked at; empty if more text is needed."""
        while not self._in_string or self._skip_string():
            found = _MARK.search(self._text, self._position)
            if found is None:
                self._position = len(self._text)
                break
            self._position = found.end()
            self._marks += 1
            if self._marks > MARKS_MAX:
                raise ValueError("an item has too many parts")
            mark = bytes(found[0])
            if mark != _QUOTE or not self._depth:
                return mark
            self._in_string = True
        return b""

    def _skip_string(self) -> bool:
        """Whether the string ends in what has arrived."""
        found = _REST_OF_STRING.match(self._text, self._position)
        assert found is not None
        self._position = found.end()
        if self._text[self._position : self._position + 1] != _QUOTE:
            return False  # at the end, or at a backslash whose other half has not come
        self._position += 1
        self._in_string = False
        return True

    def _begin(self, mark: bytes) -> None:
        if mark != b"[" or not _is_blank(self._take()):
            raise ValueError("it is not an array")

    def _take(self) -> bytearray:
        """What comes before the mark at the present position; what comes after it is the next item."""
        text, end = self._text, self._position
        self._position = self._marks = 0
        if end < len(text) // 2:
            item = text[: end - 1]
            del text[:end]
            return item
        # The larger part is not copied.
        self._text = text[end:]
        del text[end - 1 :]
        return text


def _is_blank(text: bytearray) -> bool:
    return _BLANK.fullmatch(text) is not None
