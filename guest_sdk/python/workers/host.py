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
            return self.handle.read(min(limit, BYTES_MAX)) or b""
        except Err as error:
            fail(error)

    async def read_bytes(self) -> bytes:
        length = self.length
        try:
            if length is not None and length <= 4096:
                return self._pieces()
            return self.handle.latin1().encode("latin-1")  # type: ignore[no-any-return]
        except Err as error:
            fail(error)

    def _pieces(self) -> bytes:
        pieces = []
        while (piece := self.handle.read(BYTES_MAX)) is not None:
            pieces.append(piece)
        return b"".join(pieces)

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
    if kind is bytes and len(raw) <= BYTES_MAX:  # type: ignore[arg-type]
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
            for start in range(0, len(raw), 1 << 20):
                sink.write_latin1(raw[start : start + (1 << 20)].decode("latin-1"))
        elif isinstance(raw, StreamSource):
            while piece := await raw.read(READ_BYTES):
                sink.write(piece)
        sink.finish()
    except Err as error:
        fail(error)


def piped() -> tuple[Any, Any]:
    """A new body for the host and the sink that feeds it."""
    return types.pipe()  # type: ignore[no-any-return]
