"""Values of remote procedure calls, between a caller's Python and a worker's: see `handler.call` in the contract.

A value is JSON text and a list of attachments. In the text `{"$bytes": n}` stands for bytes, `{"$attachment": n}` for a
stream, `{"$response": …}` for a Response, `{"$date": ms}` for a date; a key of any other object that begins with "$"
gets one more "$". Tuples become lists, a mapping's keys text. Both sides use this module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from workers.content import Raw, ReadableStream, StreamSource
from workers.forms import Blob
from workers.http import Request, Response

_MARK = '"$'
_RESPONSE = '{"$response": '
_BYTES = re.compile(r'\{"\$bytes": ?([0-9]{1,6})\}')
"""Outside of strings only: in one, the quotes would be escaped."""

Attachments = Sequence[Raw]

_encode_plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_encode_text = json.encoder.encode_basestring


def encode(value: Any) -> tuple[str, list[Raw]]:
    """(JSON text, attachments). Raises TypeError for what cannot be sent, ValueError for NaN and infinities.

    Streams and responses are used up.
    """
    if type(value) is Response and (headers := value.headers.to_text()).isascii():
        # What most methods for the web return.
        content = value._take()
        body = "null" if content is None else '{"$attachment": 0}'
        parts = f'"status": {value.status}, "headers": {_encode_text(headers)}, "body": {body}'
        return f"{_RESPONSE}{{{parts}}}}}", [] if content is None else [content]
    try:
        text = _encode_plain(value)
        if _MARK not in text and _has_utf8(text):
            # No streams and the like, no keys that look like ours: most values.
            return text, []
    except (TypeError, RecursionError):
        pass
    taken: dict[int, Raw] = {}
    text, attachments = _encode_once(value, taken)
    if _MARK in text and _has_marked_key(value):
        # Rare: a mapping has keys that look like ours.
        value = _escaped(value)
        text, attachments = _encode_once(value, taken)
    if not _has_utf8(text):
        # Half of a surrogate pair cannot cross as text, but it can as an escape.
        text, attachments = _encode_once(value, taken, ensure_ascii=True)
    return text, attachments


def bytes_attached(text: str) -> list[int]:
    """The numbers of the attachments that stand for bytes; a stream among them is to be read before `decode`."""
    return [int(number) for number in _BYTES.findall(text)] if _MARK in text else []


def decode(text: str, attachments: Attachments = ()) -> Any:
    """The value. Raises ValueError if the text is not of this form."""
    try:
        if _MARK not in text:
            return json.loads(text)
        if text.startswith(_RESPONSE) and (response := _plain_response(text, attachments)) is not None:
            return response
        return json.loads(text, object_hook=lambda found: _restored(found, attachments))
    except RecursionError:
        raise ValueError("The value is nested too deep.") from None


def _has_utf8(text: str) -> bool:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


def _encode_once(value: Any, taken: dict[int, Raw], *, ensure_ascii: bool = False) -> tuple[str, list[Raw]]:
    """`taken`: what earlier passes took out of streams and responses, which can be taken only once."""
    attachments: list[Raw] = []
    seen: set[int] = set()

    def special(item: Any) -> Any:
        return _special(item, attachments, taken, seen)

    try:
        return json.dumps(value, default=special, ensure_ascii=ensure_ascii, allow_nan=False), attachments
    except RecursionError:
        raise TypeError("A value that contains itself, or is nested too deep, cannot be sent over RPC.") from None


def _special(item: Any, attachments: list[Raw], taken: dict[int, Raw], seen: set[int]) -> Any:
    if isinstance(item, bytes | bytearray | memoryview):
        return _attach(bytes(item), attachments, "$bytes")
    if isinstance(item, ReadableStream | Response):
        if id(item) not in taken or id(item) in seen:
            taken[id(item)] = item.take() if isinstance(item, ReadableStream) else item._take()
        seen.add(id(item))
        content = taken[id(item)]
        if isinstance(item, ReadableStream):
            return _attach(content, attachments)
        body = None if content is None else _attach(content, attachments)
        return {"$response": {"status": item.status, "headers": item.headers.to_text(), "body": body}}
    if isinstance(item, datetime):
        return {"$date": item.timestamp() * 1000}
    if isinstance(item, Blob):
        return _attach(item._raw, attachments)
    if isinstance(item, Mapping):
        return dict(item)
    if isinstance(item, StreamSource) and not isinstance(item, Request):
        return _attach(item, attachments)
    raise TypeError(f"A {type(item).__name__} cannot be sent over RPC.")


def _attach(raw: Raw, attachments: list[Raw], mark: str = "$attachment") -> dict[str, int]:
    attachments.append(raw)
    return {mark: len(attachments) - 1}


def _has_marked_key(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any((isinstance(k, str) and k.startswith("$")) or _has_marked_key(v) for k, v in value.items())
    return isinstance(value, list | tuple) and any(map(_has_marked_key, value))


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {f"${k}" if isinstance(k, str) and k.startswith("$") else k: _escaped(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value


def _plain_response(text: str, attachments: Attachments) -> Response | None:
    """The response that the text is, if it is that and nothing more."""
    whole = json.loads(text)
    parts = whole["$response"]
    if len(whole) != 1 or type(parts) is not dict:
        return None
    body = parts.get("body")
    if body is not None:
        if type(body) is not dict or body.keys() != _ATTACHMENT:
            return None
        raw = _attachment(body["$attachment"], attachments)
        parts["body"] = ReadableStream(b"" if raw is None else raw)
    return _response(parts)


_ATTACHMENT = {"$attachment"}


def _restored(found: dict[str, Any], attachments: Attachments) -> Any:
    if len(found) == 1:
        ((key, value),) = found.items()
        if key == "$bytes":
            return _bytes(_attachment(value, attachments))
        if key == "$attachment":
            raw = _attachment(value, attachments)
            return ReadableStream(b"" if raw is None else raw)
        if key == "$date":
            return _date(value)
        if key == "$response":
            return _response(value)
    return {key[1:] if key.startswith("$$") else key: value for key, value in found.items()}


def _date(milliseconds: Any) -> datetime:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise ValueError("The call has a date that is not one.") from None


def _attachment(index: Any, attachments: Attachments) -> Raw:
    if type(index) is not int or not 0 <= index < len(attachments):
        raise ValueError("The call names an attachment that it does not have.")
    return attachments[index]


def _bytes(raw: Raw) -> bytes:
    if raw is None:
        return b""
    if isinstance(raw, str):
        return raw.encode()
    if not isinstance(raw, bytes):
        raise ValueError("The call has a stream where it says that there are bytes.")
    return raw


def _response(parts: Any) -> Response:
    if not isinstance(parts, dict):
        raise ValueError("The call has a response that is not one.")
    status, body = parts.get("status"), parts.get("body")
    valid = type(status) is int and 200 <= status <= 599 and isinstance(parts.get("headers"), str)
    if not valid or not isinstance(body, ReadableStream | str | bytes | None):
        raise ValueError("The call has a response that is not one.")
    raw = body.take() if isinstance(body, ReadableStream) else body
    return Response.from_parts(parts["status"], parts["headers"], raw)
