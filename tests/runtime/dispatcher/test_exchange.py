"""A request's way in and its answer's way out, over real connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from host_bindings.body import Body, BytesBody, FileBody, Payload, Pipe, payload_bytes
from host_bindings.contract import Failure
from runtime.dispatcher.exchange import Exchange
from runtime.dispatcher.framing import InvalidAnswer
from runtime.dispatcher.http import HttpServer
from tests.runtime.dispatcher.serving import Connection, Handle, serve

LIMIT = 1024 * 1024


def answering(status: int, headers: str, body: Callable[[], Payload] | Payload) -> Handle:
    async def handle(exchange: Exchange) -> None:
        await exchange.answer(status, headers, body() if callable(body) else body, "r1")

    return handle


class Broken(Body):
    """A body that fails after so many bytes."""

    def __init__(self, length: int | None, good: bytes) -> None:
        self.length = length
        self.closed = False
        self._good = good

    async def read(self, limit: int) -> bytes:
        piece, self._good = self._good[:limit], self._good[limit:]
        if not piece:
            raise Failure("Error", "The source broke off.")
        return piece

    def close(self) -> None:
        self.closed = True


# The request


def test_a_request_is_method_address_headers_and_body() -> None:
    seen: list[object] = []

    async def handle(exchange: Exchange) -> None:
        seen.extend([exchange.method, exchange.url(), exchange.header_text(), await exchange.body(LIMIT)])
        await exchange.answer(204, "", None, "r1")

    async def client(connection: Connection) -> None:
        await connection.send(
            b"PUT /a%20b?c=d HTTP/1.1\r\nHost: example.com:1\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nhi"
        )
        await connection.answer()

    serve(handle, client)

    assert seen == ["PUT", "http://example.com:1/a%20b?c=d", "host: example.com:1\nx-a: 1\ncontent-length: 2\n", "hi"]


@pytest.mark.parametrize(
    ("line", "url"),
    [
        (b"GET http://other.example/x?y HTTP/1.1\r\nHost: ignored\r\n", "http://other.example/x?y"),
        (b"GET /a/../b//c HTTP/1.1\r\nHost: a\r\n", "http://a/a/../b//c"),
    ],
)
def test_an_address_reaches_the_worker_as_it_was_sent(line: bytes, url: str) -> None:
    seen: list[str] = []

    async def handle(exchange: Exchange) -> None:
        seen.append(exchange.url())
        await exchange.answer(204, "", None, "r1")

    async def client(connection: Connection) -> None:
        await connection.send(line + b"\r\n")
        await connection.head()

    serve(handle, client)

    assert seen == [url]


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nbad name: 1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n",
        b"nonsense\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 200,
    ],
)
def test_a_malformed_request_is_answered_400_with_a_reason(request_head: bytes) -> None:
    async def handle(exchange: Exchange) -> None:
        exchange.url()
        await exchange.answer(200, "", None, "r1")

    async def client(connection: Connection) -> None:
        await connection.send(request_head + b"\r\n")
        status, headers, body = await connection.answer()
        assert status == 400
        assert headers["content-type"] == "application/json"
        assert b'"code": "invalid_request"' in body
        assert "server" not in headers

    serve(handle, client)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"GET /%zz%\xff HTTP/1.1", b"The request's target is not an address: Invalid char in url path"),
        (b"GET file:///etc/passwd HTTP/1.1", b"The request's target is not an address: file:///etc/passwd"),
        (b"GET / HTTP/1.2", b"The request line is not one of HTTP/1.0 or HTTP/1.1."),
        (b"PRI * HTTP/2.0", b"The request line is not one of HTTP/1.0 or HTTP/1.1."),
        (b"\x16\x03\x01\x02\x00", b"Received HTTPS traffic on an HTTP port"),
    ],
)
def test_the_reason_says_what_is_wrong(line: bytes, reason: bytes) -> None:
    async def client(connection: Connection) -> None:
        await connection.send(line + b"\r\nHost: a\r\n\r\n")
        status, _, body = await connection.answer()
        assert status == 400
        assert reason in body

    serve(answering(200, "", None), client)


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (b"", None),
        ("Grüße".encode(), "Grüße"),
        (b"x" * 65_536, "x" * 65_536),
        (b"\xff\xfe", b"\xff\xfe"),
        (b"\xff" * 2048, b"\xff" * 2048),
    ],
)
def test_a_small_body_is_a_value(sent: bytes, seen: Payload) -> None:
    payloads: list[Payload] = []

    async def handle(exchange: Exchange) -> None:
        payloads.append(await exchange.body(LIMIT))
        await exchange.answer(204, "", None, "r1")

    async def client(connection: Connection) -> None:
        await connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(sent), sent))
        await connection.head()

    serve(handle, client)

    assert payloads == [seen]


@pytest.mark.parametrize("size", [2049, 65_537, 900_000])
def test_a_larger_body_is_a_stream_that_knows_its_length(size: int) -> None:
    data = os.urandom(size - 1) + b"\xff"
    seen: list[object] = []

    async def handle(exchange: Exchange) -> None:
        body = await exchange.body(LIMIT)
        assert isinstance(body, Body)
        seen.extend([body.length, await payload_bytes(body, LIMIT)])
        await exchange.answer(204, "", None, "r1")

    async def client(connection: Connection) -> None:
        await connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (size, data))
        await connection.head()

    serve(handle, client)

    assert seen == [size, data]


def test_a_chunked_body_is_a_stream_of_unknown_length() -> None:
    seen: list[object] = []

    async def handle(exchange: Exchange) -> None:
        body = await exchange.body(LIMIT)
        assert isinstance(body, Body)
        seen.extend([body.length, await payload_bytes(body, LIMIT), exchange.header_text()])
        await exchange.answer(204, "", None, "r1")

    async def client(connection: Connection) -> None:
        await connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await connection.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        await connection.head()

    serve(handle, client)

    assert seen == [None, b"abcde", "host: a\n"]


def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.body(100_000)
        raise AssertionError

    async def client(connection: Connection) -> None:
        await connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n")
        status, _, body = await connection.answer()
        assert (status, body) == (
            413,
            b'{"error": "The request\'s body is larger than 100000 bytes.", "code": "body_too_large"}',
        )

    serve(handle, client)


def test_a_chunked_body_over_the_limit_ends_in_a_failure() -> None:
    async def handle(exchange: Exchange) -> None:
        body = await exchange.body(4)
        assert isinstance(body, Body)
        with pytest.raises(Failure, match="larger than 4 bytes"):
            await body.read_all(LIMIT)
        await exchange.answer(204, "", None, "r1")

    async def client(connection: Connection) -> None:
        await connection.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
        )
        assert (await connection.head())[0] == 204

    serve(handle, client)


@pytest.mark.parametrize("framing", [b"Content-Length: 100000", b"Transfer-Encoding: chunked"])
def test_a_body_that_the_caller_breaks_off_is_a_failure(framing: bytes) -> None:
    failures: list[str] = []
    failed = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        body = await exchange.body(LIMIT)
        assert isinstance(body, Body)

        async def read() -> None:
            with pytest.raises(Failure) as caught:
                await body.read_all(LIMIT)
            failures.append(caught.value.message)
            failed.set()

        # A worker's reading is a task of its own, and the handler is cancelled.
        await asyncio.shield(asyncio.create_task(read()))

    async def client(connection: Connection) -> None:
        await connection.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n5\r\nab")
        connection.writer.close()
        await failed.wait()

    serve(handle, client)

    assert failures == ["The request's body broke off."]


def test_malformed_chunks_are_a_failure() -> None:
    async def handle(exchange: Exchange) -> None:
        body = await exchange.body(LIMIT)
        assert isinstance(body, Body)
        with pytest.raises(Failure):
            await body.read_all(LIMIT)
        await exchange.answer(400, "", None, "r1")

    async def client(connection: Connection) -> None:
        await connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await connection.send(b"zz\r\nabc\r\n0\r\n\r\n")
        assert (await connection.head())[0] == 400

    serve(handle, client)


def test_a_caller_that_waits_for_100_continue_gets_it_when_the_body_is_wanted() -> None:
    async def handle(exchange: Exchange) -> None:
        body = await exchange.body(LIMIT)
        await exchange.answer(200, "", body, "r1")

    async def client(connection: Connection) -> None:
        await connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await connection.head() == (100, [])
        await connection.send(b"hi")
        assert (await connection.answer())[2] == b"hi"

    serve(handle, client)


def test_a_compressed_body_is_not_unpacked() -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.answer(200, "", await exchange.body(LIMIT), "r1")

    async def client(connection: Connection) -> None:
        packed = b"\x1f\x8b\x08\x00 not really"
        await connection.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
            % (len(packed), packed)
        )
        assert (await connection.answer())[2] == packed

    serve(handle, client)


# The answer


@pytest.mark.parametrize("body", ["hello", b"hello", lambda: BytesBody(b"hello")])
def test_an_answer_has_its_length_and_keeps_the_connection(body: Payload) -> None:
    async def client(connection: Connection) -> None:
        for _ in range(2):
            await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            status, headers, data = await connection.answer()
            assert (status, data) == (200, b"hello")
            assert headers["content-length"] == "5"
            assert headers["x-request-id"] == "r1"
            assert headers["date"].endswith(" GMT")
            assert "connection" not in headers

    serve(answering(200, "content-type: text/plain\n", body), client)


def test_repeated_headers_stay_apart() -> None:
    async def client(connection: Connection) -> None:
        await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        _, pairs = await connection.head()
        assert [value for name, value in pairs if name == "set-cookie"] == ["a=1; Path=/", "b=2"]

    serve(answering(200, "set-cookie: a=1; Path=/\nset-cookie: b=2\n", "x"), client)


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_a_file_is_sent_whole(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    (tmp_path / "object").write_bytes(b"before" + data + b"after")

    def body() -> FileBody:
        return FileBody(os.open(tmp_path / "object", os.O_RDONLY), 6, size)

    async def client(connection: Connection) -> None:
        await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        _, headers, received = await connection.answer()
        assert headers["content-length"] == str(size)
        assert received == data

    serve(answering(200, "", body), client)


def piped() -> Pipe:
    pipe = Pipe()

    async def write() -> None:
        with suppress(Failure):
            for _ in range(20):
                await pipe.write(b"x" * 50_000)
            pipe.finish()

    pipe.task = asyncio.get_running_loop().create_task(write())  # type: ignore[attr-defined]
    return pipe


def test_a_body_of_unknown_length_is_chunked() -> None:
    async def client(connection: Connection) -> None:
        for _ in range(2):
            await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            _, headers, received = await connection.answer()
            assert "content-length" not in headers
            assert received == b"x" * 1_000_000

    serve(answering(200, "", piped), client)


def test_a_body_of_unknown_length_ends_an_old_connection() -> None:
    async def client(connection: Connection) -> None:
        await connection.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        _, headers, received = await connection.answer()
        assert headers["connection"] == "close"
        assert "transfer-encoding" not in headers
        assert received == b"x" * 1_000_000

    serve(answering(200, "", piped), client)


def test_an_old_connection_is_kept_if_it_asks_for_it() -> None:
    async def client(connection: Connection) -> None:
        for _ in range(2):
            await connection.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (await connection.answer())[1]["connection"] == "keep-alive"
        await connection.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await connection.answer())[1]["connection"] == "close"
        assert await connection.ended()

    serve(answering(200, "", "x"), client)


@pytest.mark.parametrize("body", ["hello", b"hello", lambda: BytesBody(b"hello")])
def test_head_has_the_headers_of_get_and_no_body(body: Payload) -> None:
    async def client(connection: Connection) -> None:
        for _ in range(2):
            await connection.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            status, headers, _ = await connection.answer(no_body=True)
            assert (status, headers["content-length"]) == (200, "5")

    serve(answering(200, "", body), client)


def test_head_takes_the_length_that_the_worker_gives_for_an_absent_body() -> None:
    async def client(connection: Connection) -> None:
        await connection.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await connection.answer(no_body=True))[1]["content-length"] == "12345"

    serve(answering(200, "content-length: 12345\n", None), client)


@pytest.mark.parametrize(("status", "length"), [(204, None), (205, "0"), (304, None)])
@pytest.mark.parametrize("body", [None, "text", lambda: BytesBody(b"hello"), piped])
def test_a_status_without_a_body_has_none(status: int, length: str | None, body: Payload) -> None:
    async def client(connection: Connection) -> None:
        for _ in range(2):
            await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            answered, headers, _ = await connection.answer(no_body=True)
            assert (answered, headers.get("content-length")) == (status, length)
            assert "transfer-encoding" not in headers

    serve(answering(status, "content-length: 7\n", body), client)


def test_an_answer_that_is_not_valid_closes_its_body_and_sends_nothing() -> None:
    body = Broken(5, b"hello")

    async def handle(exchange: Exchange) -> None:
        with pytest.raises(InvalidAnswer):
            await exchange.answer(200, "bad name: 1\n", body, "r1")
        await exchange.answer(502, "", None, "r1")

    async def client(connection: Connection) -> None:
        await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await connection.answer())[0] == 502

    serve(handle, client)

    assert body.closed


def test_a_measured_body_that_cannot_be_read_at_all_is_a_clean_error() -> None:
    async def client(connection: Connection) -> None:
        for _ in range(2):
            await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            status, _, body = await connection.answer()
            assert status == 500
            assert b"body_failed" in body

    serve(answering(200, "", lambda: Broken(10, b"")), client)


@pytest.mark.parametrize("length", [100_000, None])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_body_that_breaks_off_breaks_the_connection(length: int | None, version: bytes) -> None:
    bodies: list[Broken] = []

    def body() -> Broken:
        bodies.append(Broken(length, b"x" * 1000))
        return bodies[-1]

    async def client(connection: Connection) -> None:
        await connection.send(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await connection.answer()

    serve(answering(200, "", body), client)

    assert bodies[0].closed


def test_a_body_shorter_than_it_said_breaks_the_connection() -> None:
    def body() -> BytesBody:
        body = BytesBody(b"hello")
        body.length = 10
        return body

    async def client(connection: Connection) -> None:
        await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await connection.answer()

    serve(answering(200, "", body), client)


def test_a_body_longer_than_it_said_is_not_sent_further() -> None:
    def body() -> BytesBody:
        body = BytesBody(b"hello world")
        body.length = 5
        return body

    async def client(connection: Connection) -> None:
        for _ in range(2):
            await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await connection.answer())[2] == b"hello"

    serve(answering(200, "", body), client)


def test_a_caller_that_leaves_ends_the_wait_for_an_endless_body() -> None:
    ended = asyncio.Event()
    pipe = Pipe()

    async def handle(exchange: Exchange) -> None:
        await pipe.write(b"first")
        try:
            await exchange.answer(200, "", pipe, "r1")
        finally:
            ended.set()

    async def client(connection: Connection) -> None:
        await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await connection.head()
        connection.writer.transport.abort()
        await ended.wait()
        with pytest.raises(Failure):
            await pipe.write(b"nobody reads this")

    serve(handle, client)


def test_a_caller_that_leaves_ends_the_handling_of_its_request() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    left: list[bool] = []

    async def handle(exchange: Exchange) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.append(exchange.left)
            ended.set()

    async def client(connection: Connection) -> None:
        await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await begun.wait()
        connection.writer.transport.abort()
        await ended.wait()

    serve(handle, client)

    assert left == [True]


class Closable(asyncio.Transport):
    def close(self) -> None:
        pass


def test_what_was_begun_for_a_caller_who_left_before_it_was_handled_comes_to_the_handler() -> None:
    handled: list[bool] = []

    async def handle(exchange: Exchange) -> Exchange:
        handled.append(exchange.left)
        return exchange

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def begin(exchange: Exchange) -> bytes | None:
            loop.call_soon(exchange.protocol.connection_lost, None)
            return None

        protocol = HttpServer(handle, at_once=begin)()
        protocol.connection_made(Closable())
        await asyncio.sleep(0)
        protocol.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(20):
            while not handled:
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())

    assert handled == [True]


def test_pipelined_requests_are_answered_in_order() -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.answer(200, "", exchange.path, "r1")

    async def client(connection: Connection) -> None:
        await connection.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(100)))
        for n in range(100):
            assert (await connection.answer())[2] == b"/%d" % n

    serve(handle, client)


@pytest.mark.parametrize("size", [0, 60_000, 300_000, 700_000])
def test_pipelined_requests_with_bodies_are_answered_in_order(size: int) -> None:
    async def handle(exchange: Exchange) -> None:
        received = await payload_bytes(await exchange.body(LIMIT), LIMIT)
        await exchange.answer(200, "", f"{exchange.path} {len(received)}", "r1")

    async def client(connection: Connection) -> None:
        def request(n: int) -> bytes:
            return b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (n, size, bytes(size))

        sending = asyncio.create_task(connection.send(b"".join(map(request, range(40)))))
        for n in range(40):
            assert (await connection.answer())[2] == b"/%d %d" % (n, size)
        await sending

    serve(handle, client)


@pytest.mark.parametrize("ended", [True, False])
def test_a_head_has_a_bound_in_all(ended: bool) -> None:
    async def client(connection: Connection) -> None:
        head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 5_000) for n in range(14))
        await connection.send(head + (b"\r\n" if ended else b""))
        status, _, body = await connection.answer()
        assert status == 400
        assert b"larger than 65536 bytes" in body

    async def handle(exchange: Exchange) -> None:
        exchange.header_text()
        await exchange.answer(200, "", None, "r1")

    serve(handle, client)


def test_small_answers_and_large_ones_of_a_connection_keep_their_order() -> None:
    sizes = [3, 100_000, 5, 20_000, 1, 300_000, 16_000, 2]

    async def handle(exchange: Exchange) -> None:
        content = bytes([sizes.index(int(exchange.path[1:]))]) * int(exchange.path[1:])
        await exchange.answer(200, "", BytesBody(content) if len(content) == 20_000 else content, "r1")

    async def client(connection: Connection) -> None:
        await connection.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % size for size in sizes))
        for number, size in enumerate(sizes):
            assert (await connection.answer())[2] == bytes([number]) * size

    serve(handle, client)


def test_the_rest_of_a_body_that_nobody_read_does_not_disturb_the_next_request() -> None:
    async def client(connection: Connection) -> None:
        for _ in range(2):
            await connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + b"GET / " * 50_000)
            assert (await connection.answer())[2] == b"x"

    serve(answering(200, "", "x"), client)


def test_draining_lets_a_running_request_finish() -> None:
    async def main() -> bytes:
        started, go_on = asyncio.Event(), asyncio.Event()

        async def handler(exchange: Exchange) -> Exchange:
            started.set()
            await go_on.wait()
            await exchange.answer(200, "", "done", "r1")
            return exchange

        http = HttpServer(handler)
        listener = await asyncio.get_running_loop().create_server(http, "127.0.0.1", 0)
        address = listener.sockets[0].getsockname()
        idle = Connection(*await asyncio.open_connection(*address))
        busy = Connection(*await asyncio.open_connection(*address))
        await busy.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await started.wait()
        listener.close()
        draining = asyncio.create_task(http.drain(10))
        assert await idle.ended()
        go_on.set()
        _, headers, body = await busy.answer()
        assert headers["connection"] == "close"
        assert await busy.ended()
        await draining
        for connection in (idle, busy):
            connection.writer.close()
            await connection.writer.wait_closed()
        await listener.wait_closed()
        return body

    assert asyncio.run(main()) == b"done"


# Answers without waiting


def at_once(exchange: Exchange) -> bytes | None:
    """Paths that begin with /now; what they say and the body. Everything else has to wait."""
    if not exchange.path.startswith("/now") or not exchange.is_complete:
        return None
    body = exchange.body_at_hand(LIMIT)
    assert body is None or isinstance(body, str | bytes)
    return b"".join(exchange.rendered(200, "x-way: short\n", body or exchange.path, "r1"))


async def later(exchange: Exchange) -> None:
    body = await exchange.body(LIMIT)
    await asyncio.sleep(0.001)
    assert body is None or isinstance(body, str)
    await exchange.answer(200, "x-way: long\n", body or exchange.path, "r1")


def test_a_request_that_need_not_wait_is_answered_like_any_other() -> None:
    async def client(connection: Connection) -> None:
        for path, way in (("/now/1", "short"), ("/1", "long"), ("/now/2", "short"), ("/2", "long")):
            await connection.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            status, headers, body = await connection.answer()
            assert (status, headers["x-way"], body) == (200, way, path.encode())

    serve(later, client, at_once)


def test_a_body_that_came_with_its_head_need_not_wait_and_one_in_parts_does() -> None:
    async def client(connection: Connection) -> None:
        head = b"POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
        await connection.send(head + b"body")
        _, headers, body = await connection.answer()
        assert (headers["x-way"], body) == ("short", b"body")
        await connection.send(head + b"bo")
        await asyncio.sleep(0.05)
        await connection.send(b"dy")
        _, headers, body = await connection.answer()
        assert (headers["x-way"], body) == ("long", b"body")

    serve(later, client, at_once)


def test_pipelined_requests_keep_their_order_whichever_way_they_go() -> None:
    async def client(connection: Connection) -> None:
        paths = [b"/now/%d" % n if n % 3 else b"/%d" % n for n in range(60)]
        requests = [b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in paths]
        for start in range(0, 60, 5):
            await connection.send(b"".join(requests[start : start + 4]))
            await connection.send(requests[start + 4])
        assert [(await connection.answer())[2] for _ in paths] == paths

    serve(later, client, at_once)


def test_the_last_request_of_a_connection_ends_it_whichever_way_it_went() -> None:
    async def client(connection: Connection) -> None:
        await connection.send(b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n")
        await connection.answer()
        await connection.send(b"GET /now HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await connection.answer())[1]["connection"] == "close"
        assert await connection.ended()

    serve(later, client, at_once)


def test_a_malformed_request_after_a_good_one_is_refused() -> None:
    async def client(connection: Connection) -> None:
        await connection.send(b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await connection.answer())[0] == 200
        await connection.send(b"GET /now HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
        assert (await connection.answer())[0] == 400
        assert await connection.ended()

    serve(later, client, at_once)


def test_a_caller_that_leaves_at_once_disturbs_nobody() -> None:
    async def client(connection: Connection) -> None:
        address = connection.writer.get_extra_info("peername")
        for _ in range(20):
            _, writer = await asyncio.open_connection(*address)
            writer.write(b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n")
            writer.transport.abort()
        await connection.send(b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await connection.answer())[2] == b"/now"

    serve(later, client, at_once)
