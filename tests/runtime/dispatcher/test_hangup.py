"""Callers that hang up, above all while nothing is read from them: over real connections, on both event loops."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest
import uvloop

from host_bindings.body import payload_bytes
from runtime.dispatcher import hangup
from runtime.dispatcher.exchange import Exchange
from tests.runtime.dispatcher.serving import Connection, serve

ANNOUNCED = 10_000_000
SENT = 900_000
"""More than is taken in ahead of a reader, and little enough for the kernel to take the rest."""

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LoopFactory:
    monkeypatch.setattr(hangup, "LOOK_S", 0.05)
    factory: LoopFactory = request.param
    return factory


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def end_sending(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


async def unread(exchange: Exchange) -> None:
    """Returns when no more is read from the caller."""
    transport = exchange.protocol.transport
    assert transport is not None
    while transport.is_reading():
        await asyncio.sleep(0.01)


async def second_caller(connection: Connection, sent: bytes) -> socket.socket:
    """A caller with a socket of its own, which has sent so much."""
    caller = socket.create_connection(connection.writer.get_extra_info("peername"))
    caller.setblocking(False)
    await asyncio.get_running_loop().sock_sendall(caller, sent)
    return caller


BODY = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (ANNOUNCED, bytes(SENT))
PIPELINE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 100


@pytest.mark.parametrize("sent", [BODY, PIPELINE], ids=["body", "pipeline"])
@pytest.mark.parametrize("leave", [close, reset, end_sending])
def test_a_caller_that_leaves_while_nothing_is_read_from_it_ends_its_request(
    loop_factory: LoopFactory, leave: Callable[[socket.socket], None], sent: bytes
) -> None:
    left: list[bool] = []
    waiting, ended = asyncio.Event(), asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await unread(exchange)
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.append(exchange.left)
            ended.set()

    async def client(connection: Connection) -> None:
        caller = await second_caller(connection, sent)
        await waiting.wait()
        leave(caller)
        await ended.wait()
        caller.close()

    serve(handle, client, loop_factory=loop_factory)

    assert left == [True]


def test_a_reset_is_noticed_however_much_the_caller_has_not_got_rid_of(loop_factory: LoopFactory) -> None:
    ended = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def client(connection: Connection) -> None:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"
        caller = await second_caller(connection, head)
        with pytest.raises(BlockingIOError):
            while True:
                caller.send(bytes(1_000_000))
                await asyncio.sleep(0.01)
        reset(caller)
        await ended.wait()

    serve(handle, client, loop_factory=loop_factory)


def test_a_caller_that_stays_is_read_from_again(loop_factory: LoopFactory) -> None:
    received: list[int] = []

    async def handle(exchange: Exchange) -> None:
        await unread(exchange)
        await asyncio.sleep(5 * hangup.LOOK_S)
        received.append(len(await payload_bytes(await exchange.body(ANNOUNCED), ANNOUNCED)))
        await exchange.answer(200, "", "taken", "r1")

    async def client(connection: Connection) -> None:
        await connection.send(BODY + bytes(ANNOUNCED - SENT))
        assert (await connection.answer())[2] == b"taken"

    serve(handle, client, loop_factory=loop_factory)

    assert received == [ANNOUNCED]


def test_what_is_answered_when_a_caller_ends_its_side_is_sent(loop_factory: LoopFactory) -> None:
    """As with `printf 'GET / HTTP/1.1...' | nc -N`, where a worker does not wait for anything."""

    def at_once(exchange: Exchange) -> bytes | None:
        return b"".join(exchange.rendered(200, "", "now", "r1"))

    async def handle(exchange: Exchange) -> None:
        raise AssertionError("this is answered at once")

    async def client(connection: Connection) -> None:
        await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.writer.write_eof()
        assert (await connection.answer())[2] == b"now"
        assert await connection.ended()

    serve(handle, client, at_once, loop_factory=loop_factory)


def test_who_ends_its_side_before_the_answer_counts_as_gone(loop_factory: LoopFactory) -> None:
    left: list[bool] = []

    async def handle(exchange: Exchange) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.append(exchange.left)

    async def client(connection: Connection) -> None:
        await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.writer.write_eof()
        assert await connection.ended()

    serve(handle, client, loop_factory=loop_factory)

    assert left == [True]
