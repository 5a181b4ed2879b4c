"""Bytes on their way in: a payload becomes a file, hashed while it is written, without being held in memory."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from host_bindings.body import CHUNK_BYTES, Body, Payload
from host_bindings.contract import Failure
from host_bindings.r2.errors import entity_too_large
from host_bindings.r2.files import IncomingFile, ObjectFiles

T = TypeVar("T")


class Run(Protocol):
    """Runs what blocks on a thread; the system's errors come back as `StorageFailure`."""

    def __call__(self, operation: Callable[[], T]) -> asyncio.Future[T]: ...


class SmallFile:
    """Content that is small enough to be kept with the metadata: a file without a place on disk."""

    def __init__(self, content: bytes, hashes: Sequence[str]) -> None:
        self.name = secrets.token_hex(16)
        self.content = content
        self.size = len(content)
        self._hashes = {each: hashlib.new(each, content, usedforsecurity=False) for each in hashes}

    def digest(self, name: str) -> str:
        return self._hashes[name].hexdigest()


class Receiver:
    """Receives payloads for one bucket. `finish` runs what nobody waits for."""

    def __init__(self, files: ObjectFiles, run: Run, finish: Callable[[Callable[[], None]], None]) -> None:
        self._files = files
        self._run = run
        self._finish = finish

    async def receive(
        self, value: Payload, hashes: Sequence[str], size_max: int | None, small_bytes_max: int = -1
    ) -> IncomingFile | SmallFile:
        """The content in a published file, which the caller ends, or as it is up to `small_bytes_max`. Closes a stream.

        Raises `R2Error` above `size_max` bytes, `Failure` if a stream is shorter or longer than it said, and what
        reading it raises.
        """
        try:
            if isinstance(value, Body):
                _check_size(value.length, size_max)
                return await self._receive_stream(value, hashes, size_max, small_bytes_max)
            content = value.encode() if isinstance(value, str) else value or b""
            _check_size(len(content), size_max)
            return await self._whole(content, hashes, small_bytes_max)
        finally:
            if isinstance(value, Body):
                value.close()

    async def create(self, hashes: Sequence[str] = ()) -> IncomingFile:
        """A new file, which the caller ends."""
        return await self._own(self._run(partial(self._files.create, hashes)))

    async def _whole(self, content: bytes, hashes: Sequence[str], small_bytes_max: int) -> IncomingFile | SmallFile:
        if len(content) <= small_bytes_max:
            return SmallFile(content, hashes)
        return await self._own(self._run(partial(self._write_whole, content, hashes)))

    async def _receive_stream(
        self, body: Body, hashes: Sequence[str], size_max: int | None, small_bytes_max: int
    ) -> IncomingFile | SmallFile:
        expected = body.length
        chunk = await _read_chunk(body)
        if len(chunk) < CHUNK_BYTES:
            _check_size(len(chunk), size_max)
            _check_complete(len(chunk), expected)
            return await self._whole(chunk, hashes, small_bytes_max)
        incoming = await self.create(hashes)
        try:
            size = 0
            while chunk:
                size += len(chunk)
                _check_size(size, size_max)
                writing = self._run(partial(incoming.write, chunk))
                # The next chunk comes while this one is hashed and written.
                try:
                    chunk = await _read_chunk(body)
                finally:
                    await writing
            _check_complete(size, expected)
            await self._run(incoming.publish)
        except BaseException:
            self._finish(incoming.discard)
            raise
        return incoming

    def _write_whole(self, content: bytes, hashes: Sequence[str]) -> IncomingFile:
        incoming = self._files.create(hashes)
        try:
            incoming.write(content)
            incoming.publish()
        except BaseException:
            incoming.discard()
            raise
        return incoming

    async def _own(self, making: asyncio.Future[IncomingFile]) -> IncomingFile:
        """The file that a thread is making. It is discarded if the caller is cancelled before it gets it."""
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(self._discard_made)
            raise

    def _discard_made(self, making: asyncio.Future[Any]) -> None:
        if not making.cancelled() and making.exception() is None:
            self._finish(making.result().discard)


async def _read_chunk(body: Body) -> bytes:
    """The next `CHUNK_BYTES`, less only at the end, whatever pieces they come in."""
    piece = await body.read(CHUNK_BYTES)
    if not piece or len(piece) == CHUNK_BYTES:
        return piece
    pieces = [piece]
    size = len(piece)
    while size < CHUNK_BYTES and (piece := await body.read(CHUNK_BYTES - size)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _check_size(size: int | None, size_max: int | None) -> None:
    if size is not None and size_max is not None and size > size_max:
        raise entity_too_large()


def _check_complete(size: int, expected: int | None) -> None:
    if expected is not None and size != expected:
        raise Failure("TypeError", f"The body ended after {size} bytes, but its length is {expected}.")
