"""What a bulk read answers for each entry: a worker's, and an operator's over the management API."""

from __future__ import annotations

import asyncio

import msgspec

from host_bindings.body import text_of
from host_bindings.contract import Failure
from host_bindings.kv.store import Entry, TooMuch


class NotJson(Exception):
    def __init__(self) -> None:
        super().__init__("At least one of the requested keys corresponds to a non-json value")


async def bulk_value(entry: Entry, *, is_json: bool, with_metadata: bool, bytes_max: int) -> object:
    """What becomes JSON together with the other entries' values.

    Raises `TooMuch` if the value has more than `bytes_max` bytes as text, `NotJson` if it should be JSON and is none.
    """
    try:
        text = await text_of(entry.value, bytes_max)
    except Failure:
        raise TooMuch from None
    value = await _json(text) if is_json else text
    if not with_metadata:
        return value
    metadata = None if entry.metadata is None else msgspec.Raw(entry.metadata.encode())
    return {"value": value, "metadata": metadata}


async def _json(text: str) -> msgspec.Raw:
    """A value that is JSON, passed on as it is, so that no number loses digits.

    It is only looked through: to build what 25 MB of JSON describe would take seconds.
    """
    if not _is_json(text):
        # JavaScript reads escapes of half a surrogate pair, too; any other escape does for this.
        await asyncio.sleep(0)
        if not _is_json(text.replace("\\ud", "\\u0").replace("\\uD", "\\u0")):
            raise NotJson
    return msgspec.Raw(text.encode())


def _is_json(text: str) -> bool:
    try:
        _look_through(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


_look_through = msgspec.json.Decoder(msgspec.Raw).decode
