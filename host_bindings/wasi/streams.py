"""`wasi:io/error` and `wasi:io/streams`: an input that is at its end, and outputs that go to the log.

Amounts are bounded by `WRITE_BYTES_MAX`; a guest that writes more than it was told it may traps, as WASI has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from host_bindings.context import GuestContext
from host_bindings.contract import (
    U64,
    Borrow,
    Bytes,
    Err,
    HostFunction,
    Interface,
    Own,
    ResultOf,
    Variant,
)
from host_bindings.wasi.console import Printer
from host_bindings.wasi.errors import GuestTrap
from host_bindings.wasi.poll import Pollable
from host_bindings.wasi.resources import ERROR, INPUT_STREAM, OUTPUT_STREAM, POLLABLE

WRITE_BYTES_MAX = 64 * 1024

STREAM_ERROR = Variant((("last-operation-failed", Own(ERROR)), ("closed", None)))

_CLOSED = Err(("closed", None))


class InputStream:
    """Standard input: nothing, at once."""


class OutputStream:
    """Standard output or error."""

    def __init__(self, printer: Printer) -> None:
        self.printer = printer


def read(_: GuestContext, stream: InputStream, length: int) -> Err:
    return _CLOSED


def subscribe(_: GuestContext, stream: InputStream | OutputStream) -> Pollable:
    return Pollable()


def check_write(_: GuestContext, stream: OutputStream) -> int:
    return WRITE_BYTES_MAX


def write(_: GuestContext, stream: OutputStream, contents: bytes) -> Coroutine[Any, Any, None] | None:
    """Logs the lines. Waits when the guest prints too much, although WASI's `write` is not meant to block."""
    if len(contents) > WRITE_BYTES_MAX:
        raise GuestTrap(f"At most {WRITE_BYTES_MAX} bytes can be written to a stream at once, not {len(contents)}.")
    delay_s = stream.printer.write(contents)
    return asyncio.sleep(delay_s) if delay_s else None


def write_zeroes(context: GuestContext, stream: OutputStream, length: int) -> Coroutine[Any, Any, None] | None:
    if length > WRITE_BYTES_MAX:
        raise GuestTrap(f"At most {WRITE_BYTES_MAX} bytes can be written to a stream at once, not {length}.")
    return write(context, stream, bytes(length))


def flush(_: GuestContext, stream: OutputStream) -> None:
    """Nothing to do: whole lines have been logged, and a part of one waits for its end."""


def splice(_: GuestContext, stream: OutputStream, source: InputStream, length: int) -> Err:
    return _CLOSED


_INPUT = Borrow(INPUT_STREAM)
_OUTPUT = Borrow(OUTPUT_STREAM)
_DATA = ResultOf(Bytes, STREAM_ERROR)
_COUNT = ResultOf(U64, STREAM_ERROR)
_DONE = ResultOf(None, STREAM_ERROR)


INTERFACES = (
    Interface("wasi:io/error@0.2.0", resources=(ERROR,), refused=("[method]error.to-debug-string",)),
    Interface(
        "wasi:io/streams@0.2.0",
        functions=(
            HostFunction("[method]input-stream.read", (_INPUT, U64), _DATA, read),
            HostFunction("[method]input-stream.blocking-read", (_INPUT, U64), _DATA, read),
            HostFunction("[method]input-stream.skip", (_INPUT, U64), _COUNT, read),
            HostFunction("[method]input-stream.blocking-skip", (_INPUT, U64), _COUNT, read),
            HostFunction("[method]input-stream.subscribe", (_INPUT,), Own(POLLABLE), subscribe),
            HostFunction("[method]output-stream.check-write", (_OUTPUT,), _COUNT, check_write),
            HostFunction("[method]output-stream.write", (_OUTPUT, Bytes), _DONE, write, may_wait=True),
            HostFunction(
                "[method]output-stream.blocking-write-and-flush", (_OUTPUT, Bytes), _DONE, write, may_wait=True
            ),
            HostFunction("[method]output-stream.flush", (_OUTPUT,), _DONE, flush),
            HostFunction("[method]output-stream.blocking-flush", (_OUTPUT,), _DONE, flush),
            HostFunction("[method]output-stream.subscribe", (_OUTPUT,), Own(POLLABLE), subscribe),
            HostFunction("[method]output-stream.write-zeroes", (_OUTPUT, U64), _DONE, write_zeroes, may_wait=True),
            HostFunction(
                "[method]output-stream.blocking-write-zeroes-and-flush",
                (_OUTPUT, U64),
                _DONE,
                write_zeroes,
                may_wait=True,
            ),
            HostFunction("[method]output-stream.splice", (_OUTPUT, _INPUT, U64), _COUNT, splice),
            HostFunction("[method]output-stream.blocking-splice", (_OUTPUT, _INPUT, U64), _COUNT, splice),
        ),
        resources=(OUTPUT_STREAM, ERROR, INPUT_STREAM, POLLABLE),
    ),
)
