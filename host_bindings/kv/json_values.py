"""Stored values that are JSON, for answers that are JSON themselves: the bulk reads of a worker and of an operator."""

from __future__ import annotations

import asyncio

import msgspec


async def as_json(text: str) -> msgspec.Raw:
    """A value that is JSON, passed on as it is, so that no number loses digits. Raises ValueError if it is none.

    It is only looked through: to build what 25 MB of JSON describe would take seconds.
    """
    if not _is_json(text):
        # JavaScript reads escapes of half a surrogate pair, too; any other escape does for this.
        await asyncio.sleep(0)
        if not _is_json(text.replace("\\ud", "\\u0").replace("\\uD", "\\u0")):
            raise ValueError("the value is not JSON")
    return msgspec.Raw(text.encode())


def _is_json(text: str) -> bool:
    try:
        _look_through(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


_look_through = msgspec.json.Decoder(msgspec.Raw).decode
