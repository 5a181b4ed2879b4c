"""An upload's body: multipart parts, read as a stream into the uploads directory and never held past the limit."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path

from aiohttp import ClientError, web
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from runtime.control.envelope import Code, ControlError, invalid
from runtime.control.metadata import METADATA_BYTES_MAX

PARTS_MAX = 64
UPLOAD_S_MAX = 600.0
"""How long a body may take to arrive."""

_WRITE_BYTES = 1024 * 1024
_HEADERS_BYTES_MAX = PARTS_MAX * 8 * 1024


@dataclass(frozen=True)
class UploadedFile:
    """A part that is not the metadata. Clients put the module's name in either of the two names."""

    field_name: str
    filename: str | None
    path: Path
    size: int


@dataclass
class Upload:
    metadata: bytes | None = None
    files: list[UploadedFile] = field(default_factory=list)

    def find(self, module: str) -> UploadedFile | None:
        """The part of a module: by file name, else by field name."""
        by_filename = [file for file in self.files if file.filename == module]
        return next(iter(by_filename or [file for file in self.files if file.field_name == module]), None)


def claim_uploads(directory: Path) -> int:
    """Says that a server uses the directory, until the descriptor that it gives is closed. Blocks on the disk.

    If no other server does, what is in it was left by one that was killed, and is deleted. The address of a transfer
    that such a server has given out is good for nothing.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in directory.glob("*.upload"):
            path.unlink(missing_ok=True)
        for path in directory.glob("*.transfer"):
            shutil.rmtree(path, ignore_errors=True)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


@contextlib.asynccontextmanager
async def receive_upload(request: web.Request, directory: Path, bytes_max: int) -> AsyncIterator[Upload]:
    """Takes a multipart body in; its files are there for the length of the `async with`.

    `bytes_max` bounds the files together. Raises `ControlError`: 413 above the limit, 408 if the body does not arrive
    in time, 400 if it is not multipart or breaks off, 415 for another type of content, 507 if the disk is full.
    """
    parser = _parser_for(request, bytes_max)
    receiver = _Receiver(directory, bytes_max)
    try:
        try:
            async with asyncio.timeout(UPLOAD_S_MAX):
                await receiver.receive(request, parser)
        except TimeoutError:
            raise ControlError(408, Code.INVALID, f"The upload took longer than {UPLOAD_S_MAX:.0f} s.") from None
        except ParserLimitReached as error:
            raise invalid(f"The multipart body is not acceptable: {error}.") from None
        except (MultipartError, ClientError, web.RequestPayloadError, ConnectionError) as error:
            raise invalid(f"The multipart body is broken or incomplete: {error}.") from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ControlError(507, Code.INTERNAL, "The server has no room on its disk for this upload.") from error
            raise
        yield receiver.upload
    finally:
        await receiver.discard()


def too_large(bytes_max: int) -> ControlError:
    return ControlError(
        413,
        Code.TOO_LARGE,
        f"The component is too large: at most {bytes_max} bytes ({bytes_max >> 20} MiB) are allowed.",
    )


def _parser_for(request: web.Request, bytes_max: int) -> PushMultipartParser:
    content_type, options = parse_options_header(request.headers.get("Content-Type", ""))
    if content_type != "multipart/form-data":
        message = "An upload is multipart/form-data with a `metadata` part and the component's part."
        raise ControlError(415, Code.INVALID, message)
    if "Content-Encoding" in request.headers:
        raise ControlError(415, Code.INVALID, "An upload is sent as it is, without Content-Encoding.")
    if (request.content_length or 0) > bytes_max + METADATA_BYTES_MAX + _HEADERS_BYTES_MAX:
        raise too_large(bytes_max)
    try:
        return PushMultipartParser(options.get("boundary", ""), max_segment_count=PARTS_MAX, strict=True)
    except MultipartError as error:
        raise invalid(f"The Content-Type is not right: {error}.") from None


class _Receiver:
    """The state of one upload: the part that is coming in, and those that are here."""

    def __init__(self, directory: Path, bytes_max: int) -> None:
        self.upload = Upload()
        self._directory = directory
        self._bytes_max = bytes_max
        self._files_bytes = 0
        self._paths: list[Path] = []
        self._segment: MultipartSegment | None = None
        self._buffer = bytearray()
        self._file: BufferedWriter | None = None

    async def receive(self, request: web.Request, parser: PushMultipartParser) -> None:
        with parser:
            async for chunk in request.content.iter_any():
                for event in parser.parse(chunk):
                    if isinstance(event, MultipartSegment):
                        await self._begin(event)
                    elif event is None:
                        await self._end()
                    else:
                        await self._append(event)

    async def discard(self) -> None:
        if self._file is not None:
            self._file.close()
        for path in self._paths:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _begin(self, segment: MultipartSegment) -> None:
        self._segment = segment
        self._buffer.clear()
        if segment.name == "metadata":
            if self.upload.metadata is not None:
                raise invalid("There are two `metadata` parts.")
            return
        path = self._directory / f"{secrets.token_hex(16)}.upload"
        self._paths.append(path)
        self._file = await asyncio.to_thread(_create, path)

    async def _append(self, data: bytes | bytearray) -> None:
        self._buffer += data
        if self._file is None:
            if len(self._buffer) > METADATA_BYTES_MAX:
                raise ControlError(413, Code.TOO_LARGE, f"metadata: is larger than {METADATA_BYTES_MAX} bytes.")
            return
        self._files_bytes += len(data)
        if self._files_bytes > self._bytes_max:
            raise too_large(self._bytes_max)
        if len(self._buffer) >= _WRITE_BYTES:
            await self._write(self._file)

    async def _end(self) -> None:
        segment, file = self._segment, self._file
        assert segment is not None
        if file is None:
            self.upload.metadata = bytes(self._buffer)
            return
        await self._write(file)
        await asyncio.to_thread(file.close)
        self._file = None
        self.upload.files.append(UploadedFile(segment.name or "", segment.filename, self._paths[-1], segment.size))

    async def _write(self, file: BufferedWriter) -> None:
        data, self._buffer = self._buffer, bytearray()
        await asyncio.to_thread(file.write, data)


def _create(path: Path) -> BufferedWriter:
    # The uploads directory is closed to others, whatever the umask makes of this file's mode.
    return path.open("xb")
