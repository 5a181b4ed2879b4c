"""Dispatch code that calls a worker in every way that a stub can be called."""

import asyncio
import json
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

from runtime.dispatcher import RemoteError, WorkerNotFound
from workers import Response, WorkerEntrypoint

LEFT = []
"""Whose callers have left."""


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlsplit(request.url)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        stub = self.env.DISPATCHER.get(request.headers["X-User-ID"], {}, {"limits": {"cpuMs": 50}})
        action = getattr(self, url.path.strip("/").replace("-", "_"))
        return await action(request, stub, query)

    async def call(self, request, stub, query):
        """A method with JSON arguments."""
        asked = json.loads(await request.text())
        try:
            result = await getattr(stub, query["method"])(*asked.get("args", ()), **asked.get("kwargs", {}))
        except RemoteError as error:
            return Response.json({"error": [error.name, error.message, str(error)]})
        return Response.json({"result": result})

    async def upload(self, request, stub, query):
        """Hands the request's body to a method as a stream."""
        return Response.json({"result": await getattr(stub, query["method"])(request.body)})

    async def download(self, request, stub, query):
        """Answers with the bytes or the stream that a method gives."""
        return Response(await getattr(stub, query["method"])(int(query["count"])))

    async def through(self, request, stub, query):
        """Sends the request's body through a method and back."""
        return Response(await stub.same(request.body))

    async def values(self, request, stub, query):
        """Values that JSON does not have, there and back."""
        sent = [b"", b"text", b"\xff\x00", b"\xff" * 5000, b"\xff" * 300_000, "ü"]
        sent += [datetime.fromisoformat("2026-04-01T12:30:00+00:00")]
        sent += [{"$attachment": 0}, {"$$x": [{"$date": 1}]}, None, 2**60, 0.5]
        received = [await stub.same(value) for value in sent]
        return Response.json(
            [type(value).__name__ for value, back in zip(sent, received, strict=True) if value != back]
        )

    async def answer(self, request, stub, query):
        return await stub.answer("text of the answer")

    async def forward(self, request, stub, query):
        return await stub.fetch(request)

    async def forward_new(self, request, stub, query):
        return await stub.fetch(f"http://inside/{query['path']}", method="PUT", body="x", headers={"X-User-ID": "new"})

    async def missing(self, request, stub, query):
        stub = self.env.DISPATCHER.get("nobody")
        try:
            await (stub.fetch(request) if query["by"] == "fetch" else stub.method())
        except WorkerNotFound as error:
            return Response(str(error))

    async def uncaught(self, request, stub, query):
        raise RuntimeError("a secret of the operator")

    async def no_response(self, request, stub, query):
        return "not a Response"

    async def after(self, request, stub, query):
        self.ctx.wait_until(stub.size("x"))
        return Response("done")

    async def wait(self, request, stub, query):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            LEFT.append(query["name"])
            raise

    async def left(self, request, stub, query):
        return Response.json(LEFT)

    async def private(self, request, stub, query):
        try:
            await stub._private()
        except AttributeError as error:
            return Response(str(error))
