"""The HTTP server of the tenants' port: aiohttp's parser and connection handling around `Exchange`.

What goes wrong before there is a request (a malformed head, too many headers) is answered here, in the same form as
every other error. Faults of callers are logged at debug level only: a stranger must not be able to fill the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from heapq import nsmallest
from time import perf_counter
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import InvalidURLError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from runtime.dispatcher.errors import Refused, answer_of
from runtime.dispatcher.exchange import Exchange
from runtime.dispatcher.hangup import HangUps
from runtime.http_bounds import BoundedHandler

log = logging.getLogger(__name__)

IDLE_S = 75.0
"""How long a connection may stay without a whole request head: between requests, and while a head arrives."""

LINGER_S = 5.0
"""How long the rest of a request's body is taken in after its answer, so that the caller gets to read the answer."""

CONNECTIONS_MAX = 10_000

DRAIN_POLL_S = 0.02

AT_ONCE_S = 0.01
"""How long what is left after the grace period is waited for; to aiohttp 0 would mean for ever."""

TOGETHER_S = 0.001
"""How long answers are held back for others that are sent together with them; more are left for the next round."""

TOGETHER_BYTES_MAX = 256 * 1024
"""How much is held back at most."""

HEAD_LINE_BYTES_MAX = 8190
REQUEST_HEADERS_MAX = 128

Handler = Callable[[Exchange], Awaitable[Exchange]]
"""Answers the exchange and gives it back. Must not raise. Is cancelled when the caller leaves; an exchange may also
come when its caller has `left`, so that what was begun for it can be ended."""

AtOnce = Callable[[Exchange], bytes | None]
"""The whole answer, if there is one without waiting; if not, the `Handler` gets the exchange. Must not raise."""


class Connection(BoundedHandler):
    """One connection: aiohttp's handler, with a short way for requests that are answered without waiting.

    aiohttp takes each message through two tasks. Only a message that stands alone on a connection that waits for it
    goes the short way: whatever is pipelined, upgraded, incomplete or malformed is left to aiohttp.
    """

    __slots__ = ("_begun", "_draining", "_server")

    def __init__(self, server: HttpServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._begun: Exchange | None = None
        """A request that could not be answered at once, until the handler has it."""
        self._draining = False

    def data_received(self, data: bytes) -> None:
        waiter, self._waiter = self._waiter, None
        waited_for = waiter is not None and not waiter.done()
        # Without a waiter there is nobody to wake: the message is parsed and queued, no more.
        self.take_in(data, waited_for)
        self._waiter = waiter
        if waiter is None or not waited_for or not self._messages:
            return
        if len(self._messages) > 1 or not self._server.take(self):
            waiter.set_result(None)

    def answer_at_once(self, at_once: AtOnce) -> bytes | None:
        """The answer to the only message there is; None if it goes the long way, or if the connection has gone."""
        waiter = self._waiter
        if waiter is None or waiter.done() or not self._messages:
            return None
        answer = self._attempt(at_once)
        if answer is None and self._messages:
            waiter.set_result(None)
        return answer

    def _attempt(self, at_once: AtOnce) -> bytes | None:
        message, payload = self._messages[0]
        manager, parser = self._manager, self._parser
        alone = len(self._messages) == 1 and not (self._upgraded or self._close or self.writing_paused)
        if manager is None or parser is None or not alone or not isinstance(message, RawRequestMessage):
            return None
        exchange = Exchange(message, payload, self, None, None)
        if not exchange.keep_alive or self._draining:
            return None
        answer = at_once(exchange)
        if answer is None:
            self._begun = exchange
            return None
        self._messages.clear()
        manager.requests_count += 1
        parser.message_consumed()
        self._next_keepalive_close_time = self._loop.time() + IDLE_S
        return answer

    def eof_received(self) -> None:
        """The caller has sent its last byte: the event loop closes the connection, and the request under way ends.

        It may only have closed its sending side and still wait for the answer. That looks like a caller that has gone,
        until something is sent to it, and such callers are many, while hardly anybody closes one side alone. So it is
        as with nginx when it passes requests on, and with Node: what is answered by then is sent, nothing after it.
        """
        self._server.flush()

    def _pause_transport_reading(self) -> None:
        super()._pause_transport_reading()
        if self.transport is not None:
            self._server.hang_ups.watch(self.transport)

    def send(self, data: bytes) -> None:
        """Sends a part of an answer together with what others send in this round of the loop."""
        if self.transport is not None:
            self._server.send(self.transport, data)

    def flush(self) -> None:
        """Sends what `send` has taken: before anything is written past it, and before the connection is closed."""
        self._server.flush()

    def take_exchange(self, *parts: Any) -> Exchange:
        """The request that has been begun, or else a new one; `parts` are what aiohttp makes a request of."""
        exchange = self._begun
        if exchange is None:
            exchange = Exchange(*parts)
        else:
            exchange.attach(*parts[3:])
        if self._draining:
            exchange.keep_alive = False
        return exchange

    def connection_lost(self, exc: BaseException | None) -> None:
        begun, self._begun = self._begun, None
        super().connection_lost(exc)
        if begun is not None:
            # The task that was to handle it never will; what has been begun must be ended all the same.
            begun.leave()
            self._server.hand_over(begun)

    def taken(self) -> None:
        """The handler has the request."""
        self._begun = None

    def _make_error_handler(self, err_info: _ErrInfo) -> Any:
        async def answer_malformed(exchange: Exchange) -> Exchange:
            exchange.keep_alive = False
            reason = _reason(err_info)[:200]
            await exchange.refuse(*answer_of(Refused(err_info.status, "invalid_request", reason)), "-")
            return exchange

        return answer_malformed

    def log_exception(self, *args: Any, **kw: Any) -> None:
        log.debug(*args, **kw)

    def drain(self) -> None:
        """Ends the connection as soon as the request under way, if there is one, has been answered."""
        self._draining = True
        self._server.flush()
        exchange = cast("Exchange | None", self._current_request)
        if exchange is not None:
            # Not `close`: that stops reading, and the request's body may still be coming.
            exchange.keep_alive = False
            return
        if self._messages:
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


def _reason(malformed: _ErrInfo) -> str:
    """What is wrong with a request, in words for its caller."""
    # The parser's message quotes the caller's bytes with a marker below them; its first line is enough.
    reason = (malformed.message or "").strip().partition("\n")[0].rstrip(":")
    if isinstance(malformed.exc, InvalidURLError):
        return f"The request's target is not an address: {reason}"
    if reason in ("Bad status line", "Pause on PRI/Upgrade"):
        return "The request line is not one of HTTP/1.0 or HTTP/1.1."
    return reason or "The request is malformed."


def _exchange(message: RawRequestMessage, payload: StreamReader, protocol: Connection, *parts: Any) -> Exchange:
    return protocol.take_exchange(message, payload, protocol, *parts)


class HttpServer(web.Server):
    """A factory of protocols for `loop.create_server`. `drain` ends it gracefully.

    At most `connections_max` connections are open: a new one takes the place of the one that has waited longest for its
    caller, and is refused if all are at work.

    Requests that came in one round of the loop are answered together after it, and their answers sent together: the
    processor's caches hold one thing at a time, and a caller that is woken once takes many answers. With 32 callers
    that is a third of a request's CPU time.
    """

    def __init__(
        self, handler: Handler, connections_max: int = CONNECTIONS_MAX, *, at_once: AtOnce | None = None
    ) -> None:
        self._connections_max = connections_max
        self._at_once = at_once
        self._due: deque[Connection] = deque()
        self._answers: list[tuple[asyncio.Transport, bytes]] = []
        self._handed_over: set[asyncio.Task[Any]] = set()
        self._handler = handler
        self._answers_bytes = 0
        super().__init__(
            cast(Any, self._handle),
            request_factory=cast(Any, _exchange),
            access_log=None,
            # A caller that leaves ends the work for it: `Dispatcher.handle` is cancelled.
            handler_cancellation=True,
            # A body that is sent compressed is the worker's to decompress: it may only be passed on.
            auto_decompress=False,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            max_line_size=HEAD_LINE_BYTES_MAX,
            max_field_size=HEAD_LINE_BYTES_MAX,
            max_headers=REQUEST_HEADERS_MAX,
        )
        self.hang_ups = HangUps(self._loop)

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        if len(self._connections) >= self._connections_max and not self._make_room():
            transport.abort()
        super().connection_made(handler, transport)

    def _make_room(self) -> bool:
        """Closes those that have waited longest for their caller, several at once: looking for them takes time."""
        self.flush()
        connections = cast("list[Connection]", list(self._connections))
        waiting = [one for one in connections if one.waits]
        longest = nsmallest(max(1, len(connections) // 20), waiting, key=lambda one: one.waiting_since)
        for connection in longest:
            connection.force_close()
            self._connections.pop(connection, None)
        return bool(longest)

    def take(self, connection: Connection) -> bool:
        """Takes note of a connection with one message, if there is a short way for it."""
        if self._at_once is None:
            return False
        if not self._due:
            self._loop.call_soon(self._answer)
        self._due.append(connection)
        return True

    def _answer(self) -> None:
        at_once, due = self._at_once, self._due
        assert at_once is not None
        send_at = perf_counter() + TOGETHER_S
        for _ in range(len(due)):
            connection = due.popleft()
            answer = connection.answer_at_once(at_once)
            if answer is not None and connection.transport is not None:
                self._answers.append((connection.transport, answer))
            if perf_counter() > send_at:
                break
        self.flush()
        if due:
            self._loop.call_soon(self._answer)

    def send(self, transport: asyncio.Transport, data: bytes) -> None:
        """Writes soon: after what else is done in this round of the loop, unless there is much to write."""
        if not self._answers:
            self._loop.call_soon(self.flush)
        self._answers.append((transport, data))
        self._answers_bytes += len(data)
        if self._answers_bytes > TOGETHER_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Writes what there is to write."""
        answers, self._answers = self._answers, []
        self._answers_bytes = 0
        for transport, answer in answers:
            if not transport.is_closing():
                transport.write(answer)

    async def _handle(self, exchange: Exchange) -> Exchange:
        exchange.protocol.taken()
        return await self._handler(exchange)

    def hand_over(self, exchange: Exchange) -> None:
        """Lets the handler see to an exchange whose caller has gone."""
        task = self._loop.create_task(self._handle(exchange))
        self._handed_over.add(task)
        task.add_done_callback(self._handed_over.discard)

    async def drain(self, grace_s: float) -> None:
        """Closes idle connections, lets running requests finish for `grace_s`, then ends what is left."""
        for connection in self.connections:
            cast(Connection, connection).drain()
        deadline = asyncio.get_running_loop().time() + grace_s
        # aiohttp tells of no connection's end: there is no event to wait for.
        while self._connections and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_POLL_S)
        await self.shutdown(AT_ONCE_S)
