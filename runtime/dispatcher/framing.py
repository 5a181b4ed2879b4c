"""Header text in both directions: from a caller's headers to the contract's, from a worker's to the wire.

The contract's header text is lines `name: value\\n`. Both sides are hostile: neither may say anything about a message's
length, a connection or a transfer encoding, and nothing passes that could end a header early.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus

from runtime.http_bounds import HEAD_BYTES_MAX
from runtime.settings import DASHBOARD_COOKIE

RESPONSE_HEADER_BYTES_MAX = 64 * 1024
RESPONSE_HEADERS_MAX = 256

# RFC 9110, section 7.6.1, and the older names that intermediaries still treat as such.
_HOP_BY_HOP = (
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
)
REQUEST_DROPPED = frozenset(name.encode() for name in (*_HOP_BY_HOP, "expect"))
"""What of a request's headers is for the connection, and stays outside."""

_RESPONSE_OWNED = (*_HOP_BY_HOP, "content-length", "date", "x-request-id")

_LINES = re.compile(r"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[^\x00-\x08\x0a-\x1f\x7f]*+\n)*+")
_OWNED_LINE = re.compile(rf"^(?:{'|'.join(_RESPONSE_OWNED)}):.*\n", re.IGNORECASE | re.MULTILINE)
_CONTENT_LENGTH = re.compile(r"^content-length:[ \t]*([0-9]{1,18})[ \t]*$", re.IGNORECASE | re.MULTILINE)
_OPERATORS = DASHBOARD_COOKIE.encode()
_OPERATORS_LINE = re.compile(rb"^cookie:[^\n]*" + _OPERATORS + rb"[^\n]*\n", re.MULTILINE)
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9\-._~%!$&'()*+,;=]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{0,5}))?")
_PORT_MAX = 65_535
_LENGTH_DIGITS_MAX = 18
_CACHED_CHARACTERS_MAX = 512


class InvalidRequest(Exception):
    """The caller's request cannot be passed on; `args[0]` says why."""


class InvalidAnswer(Exception):
    """A worker's answer cannot be put on the wire; `args[0]` says why, in words for the worker's developer."""


def request_header_text(
    headers: Iterable[tuple[bytes, bytes]], identity: bytes | None = None, dropped: frozenset[bytes] = REQUEST_DROPPED
) -> str:
    """A request's headers as the contract has them: names in lower case, without those that are `dropped`.

    `identity` is the header, in lower case, that names the tenant: other spellings of it with underscores, which
    some frameworks would take for the same, are left out; so are the dashboard's cookies, which a browser sends to
    every port of a host. Values are UTF-8, or else ISO 8859-1. Raises `InvalidRequest`, also for what the parser takes
    of a message's length and others might take otherwise.
    """
    lines: list[bytes] = []
    nominated: bytes | None = None
    for name, value in headers:
        name = name.lower()
        if name in dropped:
            if name == b"connection":
                nominated = value if nominated is None else nominated + b"," + value
            elif name == b"transfer-encoding" and value.lower() != b"chunked":
                raise InvalidRequest("Of transfer encodings only chunked is understood.")
            continue
        if name == b"content-length" and len(value) > _LENGTH_DIGITS_MAX:
            # The largest of 64 bits means none to the parser.
            raise InvalidRequest("The Content-Length is larger than any request's.")
        if b"_" in name and name.replace(b"_", b"-") == identity:
            continue
        lines.append(b"%b: %b\n" % (name, value))
    if nominated is not None and nominated.lower() not in (b"keep-alive", b"close", b"upgrade"):
        names = {token.strip().lower() for token in nominated.split(b",")}
        lines = [line for line in lines if line.partition(b":")[0] not in names]
    joined = b"".join(lines)
    if joined.count(b"\n") != len(lines) or b"\r" in joined or b"\0" in joined:
        raise InvalidRequest("A header has a character that no header may have.")
    if len(joined) > HEAD_BYTES_MAX:
        raise InvalidRequest(f"The request's headers are larger than {HEAD_BYTES_MAX} bytes.")
    if _OPERATORS in joined:
        joined = _OPERATORS_LINE.sub(_without_operators_cookies, joined)
    try:
        return joined.decode()
    except UnicodeDecodeError:
        return joined.decode("latin-1")


def _without_operators_cookies(line: re.Match[bytes]) -> bytes:
    """The dashboard's cookies are no worker's business."""
    cookies = line[0].removeprefix(b"cookie:").strip().split(b";")
    kept = [cookie.strip() for cookie in cookies if not cookie.strip().startswith(_OPERATORS)]
    return b"cookie: %b\n" % b"; ".join(kept) if kept else b""


@lru_cache(maxsize=1024)
def is_authority(host: str) -> bool:
    """Whether a Host header names a host, and perhaps a port."""
    found = _AUTHORITY.fullmatch(host)
    return found is not None and int(found[1] or 0) <= _PORT_MAX


def response_header_bytes(text: str) -> bytes:
    """A worker's headers as they go on the wire, each line ended by CR LF, without those that the host sets itself.

    Raises `InvalidAnswer` for names that are not tokens, values with control characters, and more than
    `RESPONSE_HEADER_BYTES_MAX` bytes or `RESPONSE_HEADERS_MAX` headers.
    """
    # Most answers of a worker have the same headers. Only short texts are kept: the cache's size is a bound.
    return _cached_header_bytes(text) if len(text) <= _CACHED_CHARACTERS_MAX else _header_bytes(text)


def _header_bytes(text: str) -> bytes:
    if len(text) > RESPONSE_HEADER_BYTES_MAX:
        raise InvalidAnswer(f"its headers are larger than {RESPONSE_HEADER_BYTES_MAX} bytes")
    if text.count("\n") > RESPONSE_HEADERS_MAX:
        raise InvalidAnswer(f"it has more than {RESPONSE_HEADERS_MAX} headers")
    if _LINES.fullmatch(text) is None:
        raise InvalidAnswer("a header's name or value has a character that it may not have")
    text = _OWNED_LINE.sub("", text)
    try:
        encoded = text.replace("\n", "\r\n").encode()
    except UnicodeEncodeError:
        raise InvalidAnswer("a header's value is not text") from None
    if len(encoded) > RESPONSE_HEADER_BYTES_MAX:
        raise InvalidAnswer(f"its headers are larger than {RESPONSE_HEADER_BYTES_MAX} bytes")
    return encoded


_cached_header_bytes = lru_cache(maxsize=1024)(_header_bytes)


def claimed_length(text: str) -> int | None:
    """The length that a worker gives in the answer to a HEAD request, which has no body to measure."""
    found = _CONTENT_LENGTH.findall(text)
    return int(found[0]) if len(found) == 1 else None


_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


def status_line(status: int) -> bytes:
    """The first line of an answer. Raises `InvalidAnswer` unless the status is from 200 to 599."""
    if not 200 <= status <= 599:
        raise InvalidAnswer(f"its status is {status}, which is not from 200 to 599")
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def header_text(pairs: Iterable[tuple[str, str]]) -> str:
    """The host's own headers as header text."""
    return "".join(f"{name}: {value}\n" for name, value in pairs)
