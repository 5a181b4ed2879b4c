"""An HTTP server with a handler of a test's own, and a caller that writes and reads bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from runtime.dispatcher.errors import answer_of, refusal
from runtime.dispatcher.exchange import Exchange
from runtime.dispatcher.http import AtOnce, HttpServer

Handle = Callable[[Exchange], Awaitable[None]]
Client = Callable[["Connection"], Awaitable[None]]


class Connection:
    """A caller that writes and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, list[tuple[str, str]]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines[1:] if line)]
        return int(lines[0].split(" ")[1]), headers

    async def answer(self, *, no_body: bool = False) -> tuple[int, dict[str, str], bytes]:
        status, pairs = await self.head()
        headers = dict(pairs)
        if no_body or status in (204, 304):
            return status, headers, b""
        if "content-length" in headers:
            return status, headers, await self.reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, await self._chunks()
        return status, headers, await self.reader.read()

    async def ended(self) -> bool:
        return await self.reader.read(1) == b""

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return body


def serve(
    handle: Handle,
    client: Client,
    at_once: AtOnce | None = None,
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Runs a client against a server that handles each exchange so; an error of the handler's becomes an answer."""

    async def handler(exchange: Exchange) -> Exchange:
        try:
            await handle(exchange)
        except Exception as error:
            await exchange.refuse(*answer_of(refusal(error)), "r1")
        return exchange

    async def main() -> None:
        http = HttpServer(handler, at_once=at_once)
        listener = await asyncio.get_running_loop().create_server(http, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        try:
            async with asyncio.timeout(20):
                await client(Connection(reader, writer))
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            listener.close()
            await http.drain(5)
            await listener.wait_closed()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
