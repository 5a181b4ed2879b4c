"""A tenant's live log as Server-Sent Events."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web

from runtime.control.envelope import Code, ControlError
from runtime.dashboard.guard import HEADERS
from runtime.dashboard.visit import Visit
from runtime.telemetry.meters import TenantKey
from runtime.telemetry.tail import Filters

LOOK_S = 1.0
"""How soon a stream ends when its session, its reader or the server does."""

_BEATS = 15
"""A comment goes out after so many looks without an event, so that nothing between takes the connection for dead."""


class Streams:
    """Whether tails may go on: not when the server wants to stop."""

    def __init__(self) -> None:
        self._stopping = False

    async def stop(self, application: web.Application) -> None:
        self._stopping = True

    async def tail(self, visit: Visit) -> web.StreamResponse:
        """Each event is JSON in the shape of Cloudflare's tail events. `q` is text that events must contain."""
        version = (await visit.tenant("read")).script.current
        tails = visit.parts.observatory.tails
        filters = Filters(text=visit.request.query.get("q", "")[:200])
        try:
            tail = await tails.create(TenantKey(version.tenant.namespace, version.tenant.script), filters)
        except ValueError as error:
            raise ControlError(429, Code.INVALID, f"A tail could not be opened: {error}.") from None
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        try:
            with contextlib.suppress(ConnectionError):
                await response.prepare(visit.request)
                await self._send(visit, tail.id, response)
        finally:
            await tails.delete(tail.id)
        return response

    async def _send(self, visit: Visit, id: str, response: web.StreamResponse) -> None:
        await response.write(b"retry: 3000\n\n")
        events = visit.parts.observatory.tails.events(id)
        coming = asyncio.ensure_future(anext(events, None))
        silent = 0
        try:
            while self._may_go_on(visit):
                await asyncio.wait((coming,), timeout=LOOK_S)
                if coming.done():
                    event = coming.result()
                    if event is None:
                        return
                    # JSON has no line ends, so that an event cannot end early.
                    await response.write(b"data: %b\n\n" % event.encode("utf-8", "surrogatepass"))
                    coming, silent = asyncio.ensure_future(anext(events, None)), 0
                elif (silent := silent + 1) % _BEATS == 0:
                    await response.write(b":\n\n")
        finally:
            coming.cancel()
            await asyncio.wait((coming,))

    def _may_go_on(self, visit: Visit) -> bool:
        transport = visit.request.transport
        connected = transport is not None and not transport.is_closing()
        return connected and not self._stopping and visit.dashboard.sessions.find(visit.session_id) is not None
