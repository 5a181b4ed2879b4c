"""Forms and files: FormData, File, Blob, and reading and writing them as multipart or urlencoded text."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from workers.content import Raw, ReadableStream, StreamSource, read_bytes, read_text

PARTS_MAX = 1000


class Blob:
    """Bytes with a type. The content may be a stream that the host holds; it is read when someone asks."""

    def __init__(self, parts: Any = (), type: str = "", *, content_type: str | None = None) -> None:
        self.type = content_type if content_type is not None else type
        self._raw = _join(parts)

    @property
    def size(self) -> int:
        return ReadableStream(self._raw if self._raw is not None else b"").length or 0

    @property
    def content_type(self) -> str:
        return self.type

    def in_memory(self) -> bytes:
        """The content. Raises TypeError if it is a stream: read it with `bytes()` first."""
        if self._raw is None:
            return b""
        if isinstance(self._raw, str):
            return self._raw.encode()
        if isinstance(self._raw, bytes):
            return self._raw
        raise TypeError("The file is a stream; read it with bytes() first.")

    def stream(self) -> ReadableStream:
        """The content as a stream; each call gives one of its own, unless the content is a stream itself."""
        return ReadableStream(self._raw if self._raw is not None else b"")

    async def bytes(self) -> bytes:
        return await read_bytes(self._raw)

    async def text(self) -> str:
        return await read_text(self._raw)

    async def buffer(self) -> memoryview:
        return memoryview(await self.bytes())

    arrayBuffer = buffer
    array_buffer = buffer


class File(Blob):
    """A blob with a name, as a form has it."""

    def __init__(
        self,
        parts: Any = (),
        name: str = "",
        type: str = "",
        *,
        filename: str | None = None,
        content_type: str | None = None,
    ) -> None:
        super().__init__(parts, type, content_type=content_type)
        self.name = filename if filename is not None else name


FormValue = str | Blob


class FormData:
    """The fields of a form, in order; a name may occur more than once."""

    def __init__(self, fields: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None) -> None:
        pairs = fields.items() if isinstance(fields, Mapping) else fields or ()
        self._fields: list[tuple[str, FormValue]] = [(name, _value(value)) for name, value in pairs]

    def get(self, name: str, default: Any = None) -> Any:
        """The first value of the name."""
        return next((value for key, value in self._fields if key == name), default)

    def get_all(self, name: str) -> list[FormValue]:
        return [value for key, value in self._fields if key == name]

    getAll = get_all

    def has(self, name: str) -> bool:
        return name in self

    def append(self, name: str, value: Any, filename: str | None = None) -> None:
        self._fields.append((name, _value(value, filename)))

    def set(self, name: str, value: Any, filename: str | None = None) -> None:
        self.delete(name)
        self.append(name, value, filename)

    def delete(self, name: str) -> None:
        self._fields = [field for field in self._fields if field[0] != name]

    def items(self) -> Iterator[tuple[str, FormValue]]:
        return iter(self._fields)

    entries = items

    def keys(self) -> list[str]:
        return list(dict(self._fields))

    def values(self) -> list[FormValue]:
        return [value for _, value in self._fields]

    def __getitem__(self, name: str) -> FormValue:
        for key, value in self._fields:
            if key == name:
                return value
        raise KeyError(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        self.delete(name)

    def __contains__(self, name: object) -> bool:
        return any(key == name for key, _ in self._fields)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._fields)

    def encode(self) -> tuple[bytes, str]:
        """(the form as multipart/form-data, its content type). Raises TypeError for a file that is a stream."""
        boundary = "----cloister" + os.urandom(12).hex()
        pieces: list[bytes] = []
        for name, value in self._fields:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"'
            if isinstance(value, str):
                pieces.append(f"{head}\r\n\r\n{value}\r\n".encode())
                continue
            filename = value.name if isinstance(value, File) else "blob"
            kind = re.sub("[\r\n]", " ", value.type) or "application/octet-stream"
            pieces.append(f'{head}; filename="{_quoted(filename)}"\r\nContent-Type: {kind}\r\n\r\n'.encode())
            pieces += [value.in_memory(), b"\r\n"]
        pieces.append(f"--{boundary}--\r\n".encode())
        return b"".join(pieces), f"multipart/form-data; boundary={boundary}"


def parse_form(data: bytes, content_type: str) -> FormData:
    """A body's fields. Raises TypeError if it is not a form, ValueError if the form is broken."""
    kind, options = parse_options_header(content_type)
    if kind == "application/x-www-form-urlencoded":
        return FormData(parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=PARTS_MAX))
    if kind != "multipart/form-data" or not options.get("boundary"):
        raise TypeError(f"The body is not a form: its content type is {content_type[:100]!r}.")
    form = FormData()
    segment: MultipartSegment | None = None
    pieces: list[bytes] = []
    try:
        with PushMultipartParser(options["boundary"], max_segment_count=PARTS_MAX) as parser:
            for event in parser.parse(data):
                if isinstance(event, MultipartSegment):
                    segment, pieces = event, []
                elif event is not None:
                    pieces.append(bytes(event))
                elif segment is not None:
                    content = b"".join(pieces)
                    if segment.filename is None:
                        form.append(segment.name or "", content.decode("utf-8", "replace"))
                    else:
                        kind = segment.header("Content-Type", "")
                        form.append(segment.name or "", File(content, segment.filename, kind))
    except MultipartError as error:
        raise ValueError(f"The form is not valid: {error}") from None
    return form


def _value(value: Any, filename: str | None = None) -> FormValue:
    if isinstance(value, Blob):
        return File(value._raw, filename, value.type) if filename is not None else value
    if isinstance(value, bytes | bytearray | memoryview):
        return File(bytes(value), filename or "blob")
    return str(value)


def _join(parts: Any) -> Raw:
    if parts is None or isinstance(parts, str | bytes):
        return parts
    if isinstance(parts, ReadableStream):
        return parts.take()
    if isinstance(parts, bytearray | memoryview):
        return bytes(parts)
    if isinstance(parts, StreamSource):
        return parts
    pieces: list[Any] = [part._raw if isinstance(part, Blob) else part for part in parts]
    if len(pieces) == 1:
        return _join(pieces[0])
    return b"".join(piece.encode() if isinstance(piece, str) else bytes(piece) for piece in pieces)


def _quoted(text: str) -> str:
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
