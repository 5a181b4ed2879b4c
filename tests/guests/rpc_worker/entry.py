"""A worker whose methods take and give every sort of value that calls can carry."""

import asyncio
from datetime import UTC, datetime

from workers import Response, WorkerEntrypoint


class CustomError(Exception):
    pass


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = request.url.split("?")[0].rsplit("/", 1)[-1]
        if path == "fail":
            raise CustomError("a secret of the tenant")
        if path == "bad-status":
            return Response.from_parts(int(request.url.partition("?")[2]), "", None)
        if path == "bad-header":
            return Response.from_parts(200, f"{await request.text()}\n", "x")
        if path == "cookies":
            return Response("x", headers=[("set-cookie", "a=1"), ("set-cookie", "b=2"), ("content-length", "999")])
        if path == "streamed":
            return Response(self.pieces(int(request.url.partition("?")[2])))
        if path == "broken":
            return Response(self.broken())
        if path == "loop":
            while True:
                pass
        if path == "headers":
            return Response.json({"url": request.url, "headers": dict(request.headers)})
        if path == "echo":
            return Response(
                request.body,
                headers={"x-method": request.method, "x-length": str(request.headers.get("content-length"))},
            )
        return Response.json({"method": request.method, "url": request.url, "user": request.headers["x-user-id"]})

    async def pieces(self, count):
        for n in range(count):
            await asyncio.sleep(0)
            yield bytes([n % 256]) * 1000

    async def broken(self):
        yield b"begun"
        raise CustomError("and not ended")

    def echo(self, *args, **kwargs):
        return {"args": args, "kwargs": kwargs}

    async def wait_and_add(self, a, b=10):
        await asyncio.sleep(0.01)
        return a + b

    async def fail(self, message):
        raise CustomError(message)

    async def length(self, stream):
        return len(await stream.bytes()) if hasattr(stream, "bytes") else sum([len(piece) async for piece in stream])

    async def size(self, data):
        return len(data)

    async def same(self, value):
        return value

    async def numbers(self, count):
        return bytes(n % 256 for n in range(count))

    async def date(self):
        return datetime(2026, 4, 1, 12, 30, tzinfo=UTC)

    async def answer(self, text):
        return Response(text, status=201, headers={"x-answer": "yes"})

    async def nothing(self):
        pass

    async def unsendable(self):
        return object()

    async def _private(self):
        return "private"

    value = 5
