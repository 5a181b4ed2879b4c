"""`types`: bodies that a guest reads, and pipes that it writes.

Everything here is bounded, since the bytes pass through the host's memory: how much a guest reads or writes at once,
and how much it can leave lying in pipes that nobody reads.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import cast
from weakref import WeakSet

from host_bindings.body import CHUNK_BYTES, GUEST_CHUNK_BYTES, PIPE_UNREAD_BYTES_MAX, Body, Pipe, Sink, text_of
from host_bindings.context import GuestContext
from host_bindings.contract import (
    FAILURE,
    U32,
    U64,
    Borrow,
    Bytes,
    Failure,
    HostFunction,
    Interface,
    OptionOf,
    Own,
    ResultOf,
    String,
    TupleOf,
)
from host_bindings.payload import BODY, SINK

TEXT_BYTES_MAX = 32 * 1024 * 1024
"""The most that `text`, `write-text` and `write-hex` move at once."""

HEX_BYTES_MAX = 1024 * 1024
"""The most that one `read-hex` gives."""

PIPES_BYTES_MAX = 2 * PIPE_UNREAD_BYTES_MAX
"""What all pipes of one instance may hold together."""

_PIPES = "core.pipes"


def body_length(_: GuestContext, body: Body) -> int | None:
    return body.length


async def body_read(_: GuestContext, body: Body, limit: int) -> bytes | None:
    return await _read_next(body, min(limit, GUEST_CHUNK_BYTES)) or None


async def body_read_hex(_: GuestContext, body: Body, limit: int) -> str | None:
    return (await _read_next(body, min(limit, HEX_BYTES_MAX))).hex() or None


async def _read_next(body: Body, limit: int) -> bytes:
    if limit == 0:
        raise Failure("RangeError", "A read needs a limit of at least 1 byte.")
    return await body.read(limit)


async def body_text(context: GuestContext, body: Body) -> str:
    known = body.length is not None
    try:
        data = await body.read_all(TEXT_BYTES_MAX)
        if len(data) <= CHUNK_BYTES:
            return data.decode("utf-8", "replace")
        async with context.scope.large_values:
            return await text_of(data, TEXT_BYTES_MAX)
    except Failure:
        # What has been read is lost; without this a guest that goes on reading would get the rest as if it were all.
        if not known:
            body.close()
        raise


def pipe(context: GuestContext) -> tuple[Body, Sink]:
    new = Pipe()
    _pipes(context).add(new)
    return new, Sink(new)


def sink_write(context: GuestContext, sink: Sink, chunk: bytes) -> Coroutine[None, None, None]:
    if len(chunk) > GUEST_CHUNK_BYTES:
        raise Failure("RangeError", f"At most {GUEST_CHUNK_BYTES} bytes can be written at once.")
    return _write(context, sink, chunk)


def sink_write_text(context: GuestContext, sink: Sink, text: str) -> Coroutine[None, None, None]:
    return _write(context, sink, text.encode())


def sink_write_hex(context: GuestContext, sink: Sink, digits: str) -> Coroutine[None, None, None]:
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        raise Failure("TypeError", "write-hex takes pairs of hexadecimal digits only.") from None
    return _write(context, sink, data)


def sink_finish(_: GuestContext, sink: Sink) -> None:
    sink.pipe.finish()


def _write(context: GuestContext, sink: Sink, data: bytes) -> Coroutine[None, None, None]:
    if len(data) > TEXT_BYTES_MAX:
        raise Failure("RangeError", f"At most {TEXT_BYTES_MAX} bytes can be written at once.")
    if sum(pipe.held_bytes for pipe in _pipes(context)) + len(data) > PIPES_BYTES_MAX:
        raise Failure("RangeError", f"The bodies that nobody reads hold {PIPES_BYTES_MAX} bytes already.")
    return sink.pipe.write(data)


def _pipes(context: GuestContext) -> WeakSet[Pipe]:
    """The instance's pipes that are still of use to someone, in the guest or outside it."""
    return cast("WeakSet[Pipe]", context.state.setdefault(_PIPES, WeakSet()))


_OF_BODY = (Borrow(BODY),)
_OF_SINK = Borrow(SINK)
_WRITTEN = ResultOf(None, FAILURE)

INTERFACE = Interface(
    "cloister:worker/types@0.1.0",
    functions=(
        HostFunction("[method]body.length", _OF_BODY, OptionOf(U64), body_length),
        HostFunction(
            "[method]body.read", (*_OF_BODY, U32), ResultOf(OptionOf(Bytes), FAILURE), body_read, may_wait=True
        ),
        HostFunction("[method]body.text", _OF_BODY, ResultOf(String, FAILURE), body_text, may_wait=True),
        HostFunction(
            "[method]body.read-hex", (*_OF_BODY, U32), ResultOf(OptionOf(String), FAILURE), body_read_hex, may_wait=True
        ),
        HostFunction("[method]sink.write", (_OF_SINK, Bytes), _WRITTEN, sink_write, may_wait=True),
        HostFunction("[method]sink.write-text", (_OF_SINK, String), _WRITTEN, sink_write_text, may_wait=True),
        HostFunction("[method]sink.write-hex", (_OF_SINK, String), _WRITTEN, sink_write_hex, may_wait=True),
        HostFunction("[method]sink.finish", (_OF_SINK,), None, sink_finish),
        HostFunction("pipe", (), TupleOf((Own(BODY), Own(SINK))), pipe),
    ),
    resources=(BODY, SINK),
)
