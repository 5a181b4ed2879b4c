"""The HTTP server of the tenants' port: aiohttp's parser and connection handling around `Exchange`.

What goes wrong before there is a request (a malformed head, too many headers) is answered here, in the same form as
every other error. Faults of callers are logged at debug level only: a stranger must not be able to fill the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from heapq import nsmallest
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from runtime.dispatcher.errors import Refused, answer_of
from runtime.dispatcher.exchange import Exchange

if TYPE_CHECKING:
    from aiohttp.web_protocol import _ErrInfo

log = logging.getLogger(__name__)

IDLE_S = 75.0
"""How long a connection may stay without a whole request head: between requests, and while a head arrives."""

LINGER_S = 5.0
"""How long the rest of a request's body is taken in after its answer, so that the caller gets to read the answer."""

CONNECTIONS_MAX = 10_000

DRAIN_POLL_S = 0.02

HEAD_LINE_BYTES_MAX = 8190
REQUEST_HEADERS_MAX = 128

Handler = Callable[[Exchange], Awaitable[Exchange]]
"""Answers the exchange and gives it back. Must not raise."""


class _Protocol(RequestHandler):
    __slots__ = ()

    def _make_error_handler(self, err_info: _ErrInfo) -> Any:
        async def answer_malformed(exchange: Exchange) -> Exchange:
            exchange.keep_alive = False
            # The parser's message quotes the caller's bytes with a marker below them; its first line is enough.
            reason = (err_info.message or "").strip().partition("\n")[0].rstrip(":") or "The request is malformed."
            await exchange.refuse(*answer_of(Refused(err_info.status, "invalid_request", reason[:200])), "-")
            return exchange

        return answer_malformed

    def log_exception(self, *args: Any, **kw: Any) -> None:
        log.debug(*args, **kw)

    def drain(self) -> None:
        """Ends the connection as soon as the request under way, if there is one, has been answered."""
        exchange = cast("Exchange | None", self._current_request)
        if exchange is not None:
            # Not `close`: that stops reading, and the request's body may still be coming.
            exchange.keep_alive = False
            return
        if self._task_handler is not None:
            self._task_handler.cancel()
        self.force_close()

    @property
    def waits(self) -> bool:
        """Whether it waits for its caller: for a request, or for the rest of a small body before a worker is called."""
        exchange = cast("Exchange | None", self._current_request)
        return exchange.receiving if exchange is not None else not self._messages

    @property
    def waiting_since(self) -> float:
        """When it was made or has answered for the last time, by the loop's clock and some constant."""
        return self._next_keepalive_close_time


class HttpServer(web.Server):
    """A factory of protocols for `loop.create_server`. `drain` ends it gracefully.

    At most `connections_max` connections are open: a new one takes the place of the one that has waited longest for its
    caller, and is refused if all are at work.
    """

    def __init__(self, handler: Handler, connections_max: int = CONNECTIONS_MAX) -> None:
        self._connections_max = connections_max
        super().__init__(
            cast(Any, handler),
            request_factory=cast(Any, Exchange),
            access_log=None,
            # A body that is sent compressed is the worker's to decompress: it may only be passed on.
            auto_decompress=False,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            max_line_size=HEAD_LINE_BYTES_MAX,
            max_field_size=HEAD_LINE_BYTES_MAX,
            max_headers=REQUEST_HEADERS_MAX,
        )

    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        if len(self._connections) >= self._connections_max and not self._make_room():
            transport.abort()
        super().connection_made(handler, transport)

    def _make_room(self) -> bool:
        """Closes those that have waited longest for their caller, several at once: looking for them takes time."""
        connections = cast("list[_Protocol]", list(self._connections))
        waiting = [one for one in connections if one.waits]
        longest = nsmallest(max(1, len(connections) // 20), waiting, key=lambda one: one.waiting_since)
        for connection in longest:
            connection.force_close()
            self._connections.pop(connection, None)
        return bool(longest)

    async def drain(self, grace_s: float) -> None:
        """Closes idle connections, lets running requests finish for `grace_s`, then ends what is left."""
        for connection in self.connections:
            cast(_Protocol, connection).drain()
        deadline = asyncio.get_running_loop().time() + grace_s
        # aiohttp tells of no connection's end: there is no event to wait for.
        while self._connections and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_POLL_S)
        await self.shutdown(0)
