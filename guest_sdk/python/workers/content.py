"""The content of a request, a response, a file: nothing, text, bytes, or a stream that is read once."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Protocol, runtime_checkable

READ_BYTES = 64 * 1024

USED = "Body already used"


@runtime_checkable
class StreamSource(Protocol):
    """Where a stream's bytes come from: a body that the host holds. `length` is None if it is not known."""

    @property
    def length(self) -> int | None: ...

    async def read(self, limit: int, /) -> bytes:
        """At least one byte and at most `limit`, or b"" at the end."""


Raw = str | bytes | StreamSource | None
"""Text stands for its UTF-8 encoding."""


class Chunk(bytes):
    """A piece of a stream; `to_bytes` as pieces have it in Cloudflare's Python Workers."""

    def to_bytes(self, *_: Any, **__: Any) -> bytes:
        return bytes(self)


class ReadableStream:
    """A stream of bytes. Passed on whole (to a bucket, into a response) its bytes never enter the worker."""

    def __init__(self, source: StreamSource | bytes | str) -> None:
        self._raw: Raw = source
        self._offset = 0
        self.locked = False

    @property
    def length(self) -> int | None:
        """The number of bytes, if it is known."""
        raw = self._raw
        if raw is None:
            return 0
        if isinstance(raw, str | bytes):
            return len(raw.encode() if isinstance(raw, str) else raw)
        return raw.length

    def take(self) -> Raw:
        """What is behind the stream, for passing it on; the stream is used up. Raises OSError if it was before."""
        if self.locked:
            raise OSError(USED)
        self.locked = True
        return self._raw

    async def read(self, limit: int = READ_BYTES) -> bytes:
        """The next bytes, b"" at the end."""
        self.locked = True
        if isinstance(self._raw, str):
            self._raw = self._raw.encode()
        if isinstance(self._raw, bytes):
            piece = self._raw[self._offset : self._offset + limit]
            self._offset += len(piece)
            return piece
        return b"" if self._raw is None else await self._raw.read(limit)

    def tee(self) -> tuple[ReadableStream, ReadableStream]:
        """Two streams of the same bytes; what only one of them has read yet is held. Raises OSError if used."""
        first, second = tee(self.take())
        return ReadableStream(first), ReadableStream(second)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        if self.locked:
            raise OSError(USED)
        while piece := await self.read():
            yield Chunk(piece)


class _Branch:
    """One of the two readers of a source."""

    def __init__(self, source: StreamSource, lock: asyncio.Lock) -> None:
        self.length = source.length
        self.pieces: deque[bytes] = deque()
        self.other: _Branch | None = None
        self._source = source
        self._lock = lock

    async def read(self, limit: int, /) -> bytes:
        if not self.pieces:
            async with self._lock:
                if not self.pieces:
                    piece = await self._source.read(limit)
                    if piece and self.other is not None:
                        self.other.pieces.append(piece)
                    return piece
        piece = self.pieces.popleft()
        if len(piece) > limit:
            self.pieces.appendleft(piece[limit:])
        return piece[:limit]


def tee(raw: Raw) -> tuple[Any, Any]:
    """Content twice."""
    if raw is None or isinstance(raw, str | bytes):
        return raw, raw
    lock = asyncio.Lock()
    first, second = _Branch(raw, lock), _Branch(raw, lock)
    first.other, second.other = second, first
    return first, second


async def read_bytes(raw: Raw) -> bytes:
    if raw is None:
        return b""
    if isinstance(raw, bytes):
        return raw
    if isinstance(raw, str):
        return raw.encode("utf-8", "surrogatepass")
    whole = getattr(raw, "read_bytes", None)
    if whole is not None:
        result: bytes = await whole()
        return result
    pieces = []
    while piece := await raw.read(READ_BYTES):
        pieces.append(piece)
    return b"".join(pieces)


async def read_text(raw: Raw) -> str:
    if raw is None:
        return ""
    if isinstance(raw, str):
        return raw
    if isinstance(raw, bytes):
        return raw.decode("utf-8", "replace")
    whole = getattr(raw, "read_text", None)
    if whole is not None:
        result: str = await whole()
        return result
    return (await read_bytes(raw)).decode("utf-8", "replace")


class BodyMixin:
    """What requests, responses and files have in common: content that is read once."""

    _raw: Raw
    _stream: ReadableStream | None = None
    _used: bool = False

    def _content_type(self) -> str:
        raise NotImplementedError

    def _take(self) -> Raw:
        """The content, once. Raises OSError afterwards."""
        if self._stream is not None:
            self._used = True
            return self._stream.take()
        if self._used:
            raise OSError(USED)
        self._used = True
        return self._raw

    @property
    def body_used(self) -> bool:
        return self._used or (self._stream is not None and self._stream.locked)

    bodyUsed = body_used

    @property
    def body(self) -> ReadableStream | None:
        """The content as a stream, None if there is none."""
        if self._raw is None:
            return None
        if self._stream is None:
            if self._used:
                raise OSError(USED)
            self._stream = ReadableStream(self._raw)
        return self._stream

    async def text(self) -> str:
        """The content as text, without a byte order mark; what is not UTF-8 becomes U+FFFD."""
        return (await read_text(self._take())).removeprefix("\ufeff")

    def _shared(self) -> Raw:
        """Content for a copy. Raises OSError if this has been used."""
        raw = self._take()
        self._used, self._stream = False, None
        self._raw, other = tee(raw)
        return other  # type: ignore[no-any-return]

    async def bytes(self) -> bytes:
        return await read_bytes(self._take())

    async def buffer(self) -> memoryview:
        return memoryview(await read_bytes(self._take()))

    arrayBuffer = buffer
    array_buffer = buffer

    async def json(self, **options: Any) -> Any:
        raw = self._take()
        text = raw if type(raw) is str else await read_text(raw)
        return json.loads(text.removeprefix("\ufeff"), **options)

    async def blob(self) -> Any:
        from workers.forms import Blob

        return Blob([await self.bytes()], self._content_type())

    async def form_data(self) -> Any:
        from workers.forms import parse_form

        return parse_form(await self.bytes(), self._content_type())

    formData = form_data
