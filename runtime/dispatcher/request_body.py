"""A request's body as it arrives: small ones are read whole, larger ones stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp.streams import StreamReader

from host_bindings.body import Body, BytesBody, Payload, too_large
from host_bindings.contract import Failure
from runtime.dispatcher.errors import Refused

if TYPE_CHECKING:
    from runtime.dispatcher.exchange import Exchange

WHOLE_BYTES_MAX = 64 * 1024
"""A body of known length up to this size is read before the worker is called; if it is UTF-8 it travels as text."""

BYTES_VALUE_MAX = 2 * 1024
"""Binary content up to this size travels as a value; above it a handle is cheaper."""

STALL_S = 60.0
"""How long a caller may send nothing while its body is waited for; and how long all of a small body may take."""


class RequestBody(Body):
    """A request's body while it comes in. Reads at most `limit` bytes in all."""

    def __init__(self, exchange: Exchange, length: int | None, limit: int) -> None:
        self.length = length
        self._exchange = exchange
        self._stream: StreamReader | None = exchange.payload
        self._limit = limit
        self._left = limit
        self._started = False
        self._patience_ends = 0.0

    async def read(self, limit: int) -> bytes:
        stream = self._stream
        if stream is None:
            raise Failure("TypeError", "The body has been closed.")
        try:
            piece = stream.read_nowait(limit)
            if not piece and not stream.at_eof():
                piece = await self._wait(stream, limit)
        except TimeoutError:
            raise Failure("Error", "The request's body stopped arriving.") from None
        except Exception as error:
            raise Failure("Error", "The request's body broke off.") from error
        self._left -= len(piece)
        if self._left < 0:
            self._exchange.body_refused = True
            raise too_large(self._limit)
        return piece

    async def _wait(self, stream: StreamReader, limit: int) -> bytes:
        if not self._started:
            self._started = True
            if self._exchange.expects_continue():
                self._exchange.send_continue()
        now = asyncio.get_running_loop().time()
        # A caller that sends a byte now and then gets no more time for it while nothing but its body is waited for.
        if self._patience_ends == 0.0 or not self._exchange.receiving:
            self._patience_ends = now + STALL_S
        async with asyncio.timeout_at(self._patience_ends):
            return await stream.read(limit)

    def close(self) -> None:
        # What is left is drained by aiohttp, for a bounded time, when the request has been answered.
        self._stream = None


async def read_payload(exchange: Exchange, length: int | None, limit: int) -> Payload:
    """The body as the contract's payload. Raises `Refused` if it is larger than `limit` or does not arrive."""
    body = _bounded(exchange, length, limit)
    if length is None or length > WHOLE_BYTES_MAX:
        return body
    exchange.receiving = True
    try:
        return _value(await body.read_all(WHOLE_BYTES_MAX))
    except Failure as failure:
        raise Refused(408, "request_timeout", failure.message) from None
    finally:
        exchange.receiving = False


def complete_payload(exchange: Exchange, length: int | None, limit: int) -> Payload:
    """`read_payload` for a body that is all there."""
    body = _bounded(exchange, length, limit)
    return body if length is None or length > WHOLE_BYTES_MAX else _value(exchange.payload.read_nowait())


def _bounded(exchange: Exchange, length: int | None, limit: int) -> RequestBody:
    if length is not None and length > limit:
        raise Refused(413, "body_too_large", f"The request's body is larger than {limit} bytes.")
    return RequestBody(exchange, length, limit)


def _value(data: bytes) -> Payload:
    try:
        return data.decode() or None
    except UnicodeDecodeError:
        return data if len(data) <= BYTES_VALUE_MAX else BytesBody(data)
