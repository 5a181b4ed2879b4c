"""/wait waits a second in a host call, /bytes returns its body, /loop never ends, anything else counts this instance's
calls."""

import asyncio
from urllib.parse import urlsplit

from workers import Response, WorkerEntrypoint

WAIT_S = 1.0

calls = 0


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        global calls
        calls += 1
        path = urlsplit(request.url).path
        if path == "/wait":
            await asyncio.sleep(WAIT_S)
            return Response("waited")
        if path == "/bytes":
            return Response(await request.bytes())
        while path == "/loop":
            pass
        return Response(str(calls))
