"""Operations and their special values, as `tests.parity` describes them, written short."""

from __future__ import annotations

import base64
from typing import Any

Operation = dict[str, Any]


def call(method: str, *arguments: Any) -> Operation:
    """One call on the binding."""
    return chain([method, *arguments])


def chain(*calls: list[Any]) -> Operation:
    """A call on the binding, a call on what it gives, and so on."""
    return {"calls": list(calls)}


def on(index: int, method: str, *arguments: Any) -> Operation:
    """A call on the result of the operation with this index."""
    return {"on": result(index), "calls": [[method, *arguments]]}


def result(index: int, *path: Any) -> Any:
    return {"$result": [index, *path]}


def octets(content: bytes) -> Any:
    return {"$bytes": _text(content)}


def buffer(content: bytes) -> Any:
    return {"$buffer": _text(content)}


def stream(content: bytes) -> Any:
    return {"$stream": _text(content)}


def blob(content: bytes, content_type: str = "") -> Any:
    return {"$blob": [_text(content), content_type]}


def filled(byte: int, length: int) -> Any:
    """Bytes that are all the same."""
    return {"$fill": [byte, length]}


def date(milliseconds: int) -> Any:
    return {"$date": milliseconds}


def number(text: str) -> Any:
    """NaN, Infinity, -Infinity."""
    return {"$number": text}


def headers(*pairs: tuple[str, str]) -> Any:
    return {"$headers": [list(pair) for pair in pairs]}


NAN = number("NaN")
INFINITY = number("Infinity")
UNDEFINED = {"$undefined": True}


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
