"""Form uploads that the operator's code reads on the host: fields in memory, large files in temporary files.

A temporary file has no name and is gone when its last reader is, also after a crash.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import parse_qsl

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from host_bindings.body import Body, BytesBody, FileBody, Payload, payload_bytes
from host_bindings.contract import Failure

PARTS_MAX = 1000
FILES_ON_DISK_MAX = 32
FIELD_BYTES_MAX = 1024 * 1024
FILE_IN_MEMORY_BYTES_MAX = 64 * 1024
MEMORY_BYTES_MAX = 16 * 1024 * 1024
READ_BYTES = 256 * 1024


class FormError(ValueError):
    """The body is not a form, or more of one than is taken. The message is for the caller."""


@dataclass(frozen=True)
class FilePart:
    """A file in a form. `content` holds up to `FILE_IN_MEMORY_BYTES_MAX` bytes, or is an open file without a name."""

    filename: str
    content_type: str
    size: int
    content: bytes | BinaryIO

    def body(self) -> Body:
        """The file's bytes from the start, each time."""
        if isinstance(self.content, bytes):
            return BytesBody(self.content)
        return FileBody(os.dup(self.content.fileno()), 0, self.size)


Form = list[tuple[str, str | FilePart]]


async def read_form(content_type: str, body: Payload, directory: Path) -> Form:
    """The fields and files of a body, multipart/form-data or application/x-www-form-urlencoded, in order.

    Raises `FormError`, or `Failure` if the body cannot be read. Closes the body.
    """
    kind, options = parse_options_header(content_type)
    try:
        if kind == "multipart/form-data":
            if not options.get("boundary"):
                raise FormError("The form's content type has no boundary.")
            return await _read_multipart(options["boundary"], body, directory)
        if kind == "application/x-www-form-urlencoded":
            text = (await payload_bytes(body, FIELD_BYTES_MAX)).decode()
            return list(parse_qsl(text, keep_blank_values=True, max_num_fields=PARTS_MAX))
    except MultipartError as error:
        raise FormError(f"The form is not valid: {error}") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise error if isinstance(error, FormError) else FormError("The form is not valid.") from None
    finally:
        if isinstance(body, Body):
            body.close()
    raise FormError("The body is not a form: its content type is neither multipart/form-data nor urlencoded.")


async def _read_multipart(boundary: str, body: Payload, directory: Path) -> Form:
    source = body if isinstance(body, Body) else BytesBody(await payload_bytes(body, READ_BYTES))
    reader = _Reader(directory)
    try:
        # Closing the parser checks that the form is complete.
        with PushMultipartParser(boundary, max_segment_count=PARTS_MAX) as parser:
            while not parser.closed and (piece := await source.read(READ_BYTES)):
                for event in parser.parse(piece):
                    if isinstance(event, MultipartSegment):
                        reader.begin(event)
                    elif event is None:
                        await reader.end()
                    else:
                        await reader.take(event)
    except BaseException:
        reader.close()
        raise
    return reader.form


class _Reader:
    """Collects the parts of a form."""

    def __init__(self, directory: Path) -> None:
        self.form: Form = []
        self._directory = directory
        self._files_on_disk = 0
        self._memory_bytes = 0
        self._segment: MultipartSegment | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._file: BinaryIO | None = None

    def begin(self, segment: MultipartSegment) -> None:
        self._segment = segment
        self._pieces, self._size, self._file = [], 0, None

    async def take(self, piece: bytes) -> None:
        assert self._segment is not None
        self._size += len(piece)
        if self._file is not None:
            await asyncio.to_thread(self._file.write, piece)
            return
        self._pieces.append(bytes(piece))
        self._memory_bytes += len(piece)
        if self._segment.filename is None:
            if self._size > FIELD_BYTES_MAX:
                raise FormError(f"A field of the form is larger than {FIELD_BYTES_MAX} bytes.")
        elif self._size > FILE_IN_MEMORY_BYTES_MAX:
            await self._move_to_disk()
        if self._memory_bytes > MEMORY_BYTES_MAX:
            raise FormError(f"The form's fields are larger than {MEMORY_BYTES_MAX} bytes.")

    async def end(self) -> None:
        segment = self._segment
        assert segment is not None
        name = segment.name or ""
        if segment.filename is None:
            try:
                self.form.append((name, b"".join(self._pieces).decode()))
            except UnicodeDecodeError:
                raise FormError(f"The field {name[:64]!r} of the form is not UTF-8 text.") from None
            return
        content: bytes | BinaryIO = b"".join(self._pieces)
        if self._file is not None:
            await asyncio.to_thread(self._file.flush)
            content, self._file = self._file, None
        self.form.append((name, FilePart(segment.filename, segment.header("Content-Type", ""), self._size, content)))

    def close(self) -> None:
        files = [part.content for _, part in self.form if isinstance(part, FilePart)]
        for content in (*files, self._file):
            if content is not None and not isinstance(content, bytes):
                content.close()

    async def _move_to_disk(self) -> None:
        self._files_on_disk += 1
        if self._files_on_disk > FILES_ON_DISK_MAX:
            raise FormError(f"The form has more than {FILES_ON_DISK_MAX} large files.")
        data = b"".join(self._pieces)
        try:
            self._file = await asyncio.to_thread(_temporary_file, self._directory, data)
        except OSError as error:
            raise Failure("Error", "The upload could not be stored.") from error
        self._memory_bytes -= len(data)
        self._pieces = []


def _temporary_file(directory: Path, data: bytes) -> BinaryIO:
    file = cast(BinaryIO, tempfile.TemporaryFile(dir=directory))  # noqa: SIM115
    file.write(data)
    return file
