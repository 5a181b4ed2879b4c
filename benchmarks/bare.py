"""The yardstick for the HTTP layer: aiohttp's low-level server with uvloop, serving the same bytes with nothing behind.

Run as `python -m benchmarks.bare PORT DIRECTORY`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import uvloop
from aiohttp import web

PIECE_BYTES = 256 * 1024


async def serve(port: int, directory: Path) -> None:
    loop = asyncio.get_running_loop()

    async def file(request: web.BaseRequest) -> web.StreamResponse:
        path = directory / request.path.removeprefix("/file/")
        response = web.StreamResponse()
        response.content_length = path.stat().st_size
        await response.prepare(request)
        with path.open("rb") as source:
            while piece := await loop.run_in_executor(None, os.read, source.fileno(), PIECE_BYTES):
                await response.write(piece)
        await response.write_eof()
        return response

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/":
            return web.Response(body=b"hello", headers={"content-type": "text/plain"})
        if request.path == "/echo":
            value = json.loads(await request.text())
            return web.Response(body=json.dumps(value).encode(), headers={"content-type": "application/json"})
        if request.method == "PUT":
            with (directory / "upload").open("wb") as target:
                async for piece in request.content.iter_chunked(PIECE_BYTES):
                    await loop.run_in_executor(None, target.write, piece)
            return web.Response(body=b"")
        return await file(request)

    runner = web.ServerRunner(web.Server(handler, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
