"""Bodies: bytes in motion that the host holds for a guest.

A request's body, an object's bytes, what a guest writes into a pipe. A guest has a handle; the bytes pass through it
only if it reads them. A body is read once, by one reader, on the event loop; reading never blocks the loop.
"""

from __future__ import annotations

import asyncio
import codecs
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable

from host_bindings.cached import read_cached
from host_bindings.contract import Failure

CHUNK_BYTES = 256 * 1024
"""The size in which the host copies; a guest gets at most `GUEST_CHUNK_BYTES` at a time."""

GUEST_CHUNK_BYTES = 64 * 1024

PIPE_UNREAD_BYTES_MAX = 26 * 1024 * 1024
"""What a pipe keeps while nobody reads it: a KV value of 25 MiB and some room."""

PIPE_BEHIND_BYTES_MAX = CHUNK_BYTES
"""How far a pipe's writer may run ahead of a reader."""


class Body(ABC):
    """A stream of bytes with one reader. `length` is the number of bytes from start to end, None if unknown."""

    length: int | None = None

    @abstractmethod
    async def read(self, limit: int) -> bytes:
        """At least one byte and at most `limit` (> 0), or b"" at the end. Raises `Failure` if the source broke off."""

    def close(self) -> None:  # noqa: B027
        """Lets go of what the body holds. May be called more than once; reading afterwards raises `Failure`."""

    def abandon(self) -> None:
        """Closes the body since whom it was for has gone: who writes it need not go on."""
        self.close()

    async def read_all(self, limit: int) -> bytes:
        """All bytes that are left. Raises `Failure` (RangeError) if there are more than `limit`."""
        if self.length is not None and self.length > limit:
            raise too_large(limit)
        pieces: list[bytes] = []
        size = 0
        while piece := await self.read(CHUNK_BYTES):
            size += len(piece)
            if size > limit:
                raise too_large(limit)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def chunks(self, size: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
        """The body in pieces of at most `size` bytes; closes it at the end."""
        try:
            while piece := await self.read(size):
                yield piece
        finally:
            self.close()


Payload = None | str | bytes | Body
"""WIT's `types.payload`: empty, text, bytes, stream. Text stands for its UTF-8 encoding."""


def known_size(payload: Payload) -> int | None:
    """A payload's size in bytes, if it can be told without reading it."""
    if payload is None:
        return 0
    # `Body` last: it is abstract, and to ask an abstract class costs a microsecond.
    if isinstance(payload, str):
        return len(payload) if payload.isascii() else len(payload.encode("utf-8", "surrogatepass"))
    return len(payload) if isinstance(payload, bytes) else payload.length


def too_large(limit: int) -> Failure:
    return Failure("RangeError", f"The body is larger than {limit} bytes; read it in pieces.")


class BytesBody(Body):
    """A body whose bytes are in memory."""

    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._data = memoryview(data)

    async def read(self, limit: int) -> bytes:
        piece = bytes(self._data[:limit])
        self._data = self._data[len(piece) :]
        return piece


class FileBody(Body):
    """`length` bytes of an open file from `offset` on. Owns the descriptor and closes it.

    `descriptor` and `offset` may be used for sendfile by a reader that then closes the body and reads no more.
    Raises `Failure` when the file is shorter than promised.
    """

    length: int

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        self.descriptor = descriptor
        self.offset = offset
        self.length = length
        self._left = length

    async def read(self, limit: int) -> bytes:
        if self._left == 0:
            return b""
        if self.descriptor < 0:
            raise Failure("Error", "The body has been closed.")
        size = min(limit, self._left)
        try:
            piece = read_cached(self.descriptor, size, self.offset)
        except BlockingIOError:
            piece = await asyncio.get_running_loop().run_in_executor(None, os.pread, self.descriptor, size, self.offset)
        if not piece:
            raise Failure("Error", "The object's bytes are damaged: the file is shorter than it should be.")
        self.offset += len(piece)
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __del__(self) -> None:
        self.close()


class BoundedBody(Body):
    """Another body, which fails once it has given more than `limit` bytes. `exceeded` makes the failure."""

    def __init__(self, body: Body, limit: int, exceeded: Callable[[], Failure]) -> None:
        self.length = body.length
        self._body = body
        self._left = limit
        self._exceeded = exceeded

    async def read(self, limit: int) -> bytes:
        piece = await self._body.read(limit)
        self._left -= len(piece)
        if self._left < 0:
            raise self._exceeded()
        return piece

    def close(self) -> None:
        self._body.close()

    def abandon(self) -> None:
        self._body.abandon()


class Pipe(Body):
    """A body that a guest writes: `write` and `finish` at one end, `read` at the other."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._read_started = False
        self._finished = False
        self._broken: str | None = None
        self._changed = asyncio.Event()

    @property
    def held_bytes(self) -> int:
        """The number of bytes that have been written and not yet read."""
        return self._size

    async def write(self, data: bytes) -> None:
        """Appends, and waits while a reader is behind. Raises `Failure` if nobody can read it."""
        self._check_writable()
        if not data:
            return
        if not self._read_started and self._size + len(data) > PIPE_UNREAD_BYTES_MAX:
            raise Failure("RangeError", f"Nobody reads this body, and it holds {PIPE_UNREAD_BYTES_MAX} bytes already.")
        self._pieces.append(data)
        self._size += len(data)
        self._changed.set()
        while self._read_started and self._size > PIPE_BEHIND_BYTES_MAX and self._broken is None:
            self._changed.clear()
            await self._changed.wait()
        self._check_writable()

    def finish(self) -> None:
        """No more will be written. The length is known now if nothing has been read."""
        if not self._finished and not self._read_started:
            self.length = self._size
        self._finished = True
        self._changed.set()

    def break_off(self, reason: str) -> None:
        """Ends the pipe as failed, unless it has been finished: the other end gets `reason`."""
        if not self._finished and self._broken is None:
            self._broken = reason
            self._changed.set()

    async def read(self, limit: int) -> bytes:
        self._read_started = True
        while not self._pieces:
            if self._broken is not None:
                raise Failure("Error", self._broken)
            if self._finished:
                return b""
            self._changed.clear()
            await self._changed.wait()
        piece = self._pieces.popleft()
        if len(piece) > limit:
            self._pieces.appendleft(piece[limit:])
            piece = piece[:limit]
        self._size -= len(piece)
        self._changed.set()
        return piece

    def close(self) -> None:
        self._pieces.clear()
        self._size = 0
        self.break_off("The reader of this body has gone.")

    def _check_writable(self) -> None:
        if self._broken is not None:
            raise Failure("Error", self._broken)
        if self._finished:
            raise Failure("TypeError", "This body has been finished.")


class Sink:
    """The writing end of a pipe, as the guest's handle: dropped without `finish` it breaks the body off."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe

    def close(self) -> None:
        self.pipe.break_off("The writer of this body stopped before its end.")


async def text_of(data: bytes, limit: int) -> str:
    """Bytes as text; what is not UTF-8 becomes U+FFFD, which may make three bytes of one.

    Raises `Failure` (RangeError) if the text has more than `limit` bytes in UTF-8. Lets others have their turn: only
    what is UTF-8 is decoded quickly.
    """
    try:
        return _within(data.decode(), len(data), limit)
    except UnicodeDecodeError:
        pass
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    pieces: list[str] = []
    size = 0
    for start in range(0, len(data), CHUNK_BYTES):
        end = start + CHUNK_BYTES
        piece = decoder.decode(data[start:end], end >= len(data))
        size += len(piece.encode())
        pieces.append(_within(piece, size, limit))
        await asyncio.sleep(0)
    return "".join(pieces)


def _within(text: str, size: int, limit: int) -> str:
    if size > limit:
        raise too_large(limit)
    return text


async def payload_bytes(payload: Payload, limit: int) -> bytes:
    """A payload's bytes in memory. Raises `Failure` (RangeError) above `limit`; closes a stream."""
    if payload is None:
        return b""
    if isinstance(payload, Body):
        try:
            return await payload.read_all(limit)
        finally:
            payload.close()
    data = payload.encode() if isinstance(payload, str) else payload
    if len(data) > limit:
        raise too_large(limit)
    return data
