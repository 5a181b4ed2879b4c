"""The only module that touches the component's imports; it can be imported in a guest alone."""

from __future__ import annotations

from typing import Any, NoReturn

from componentize_py_types import Err
from wit_world.imports import d1, environment, http, kv, log, r2, types
from wit_world.imports.types import Payload_Bytes, Payload_Empty, Payload_Stream, Payload_Text

from pyodide.ffi import JsException
from workers.content import READ_BYTES, Raw, StreamSource
from workers.values import well_formed

__all__ = [
    "Err",
    "HostStream",
    "JsException",
    "d1",
    "environment",
    "fail",
    "from_payload",
    "http",
    "kv",
    "log",
    "piped",
    "r2",
    "to_payload",
]

BYTES_MAX = 64 * 1024

VALUE_BYTES_MAX = 2 * 1024
"""Bytes up to this number cross as a list of values; more are cheaper as hexadecimal digits, through a stream."""

HEX_BYTES_MAX = 1024 * 1024
"""How many cross at once as digits."""

WHOLE_BYTES_MAX = 32 * 1024 * 1024
"""The most that is read of a stream at once."""

EMPTY = Payload_Empty()

_ERRORS = {"TypeError": TypeError, "RangeError": ValueError, "SyntaxError": ValueError}


def fail(error: Err) -> NoReturn:
    """Raises the host's failure as the exception that Cloudflare's Python Workers raise."""
    failure = error.value
    kind = _ERRORS.get(failure.name)
    raise (JsException(failure.message, failure.name) if kind is None else kind(failure.message)) from None


class HostStream:
    """A body that the host holds."""

    __slots__ = ("_length", "handle")

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self._length: Any = ...

    @property
    def length(self) -> int | None:
        if self._length is ...:
            self._length = self.handle.length()
        length: int | None = self._length
        return length

    async def read(self, limit: int, /) -> bytes:
        try:
            if limit <= VALUE_BYTES_MAX:
                return self.handle.read(limit) or b""
            return bytes.fromhex(self.handle.read_hex(min(limit, BYTES_MAX)) or "")
        except Err as error:
            fail(error)

    async def read_bytes(self) -> bytes:
        """All bytes that are left. Raises ValueError if there are more than `WHOLE_BYTES_MAX`."""
        length = self.length
        if length is not None and length > WHOLE_BYTES_MAX:
            raise ValueError(f"The body is larger than {WHOLE_BYTES_MAX} bytes; read it in pieces.")
        pieces: list[bytes] = []
        size = 0
        try:
            while (digits := self.handle.read_hex(HEX_BYTES_MAX)) is not None:
                pieces.append(bytes.fromhex(digits))
                size += len(pieces[-1])
                if size > WHOLE_BYTES_MAX:
                    raise ValueError(f"The body is larger than {WHOLE_BYTES_MAX} bytes; read it in pieces.")
        except Err as error:
            fail(error)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read_text(self) -> str:
        try:
            return self.handle.text()  # type: ignore[no-any-return]
        except Err as error:
            fail(error)


def from_payload(payload: Any) -> Raw:
    """A payload from the host as content."""
    kind = type(payload)
    if kind is Payload_Empty:
        return None
    return HostStream(payload.value) if kind is Payload_Stream else payload.value


async def to_payload(raw: Raw) -> Any:
    """Content as a payload for the host. A stream that Python code makes is read into the host first."""
    if raw is None:
        return EMPTY
    kind = type(raw)
    if kind is str:
        return Payload_Text(well_formed(raw))  # type: ignore[arg-type]
    if kind is HostStream:
        return Payload_Stream(raw.handle)  # type: ignore[union-attr]
    if kind is bytes and len(raw) <= VALUE_BYTES_MAX:  # type: ignore[arg-type]
        return Payload_Bytes(raw)
    body, sink = types.pipe()
    await pour(raw, sink)
    return Payload_Stream(body)


async def pour(raw: Raw, sink: Any) -> None:
    """Writes content into a pipe, to its end."""
    try:
        if isinstance(raw, str):
            sink.write_text(well_formed(raw))
        elif isinstance(raw, bytes):
            _write(raw, sink)
        elif isinstance(raw, StreamSource):
            while piece := await raw.read(READ_BYTES):
                _write(piece, sink)
        sink.finish()
    except Err as error:
        fail(error)


def _write(data: bytes, sink: Any) -> None:
    if len(data) <= VALUE_BYTES_MAX:
        sink.write(data)
    else:
        for start in range(0, len(data), HEX_BYTES_MAX):
            sink.write_hex(data[start : start + HEX_BYTES_MAX].hex())


def piped() -> tuple[Any, Any]:
    """A new body for the host and the sink that feeds it."""
    return types.pipe()  # type: ignore[no-any-return]
