"""Live tails of a worker's calls: opened with a token, then read from a WebSocket whose address is the key.

The protocol is that of `wrangler tail` (workers-sdk, packages/wrangler/src/tail): JSON events, one a message, under the
subprotocol `trace-v1`.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from runtime.control.envelope import Code, ControlError, invalid
from runtime.control.guard import CAPABILITIES
from runtime.control.parts import Parts
from runtime.control.routes import Call, JsonBody, NoQuery, Result, script_routes
from runtime.control.shapes import timestamp
from runtime.telemetry.meters import TenantKey
from runtime.telemetry.tail import Filters, Tail

PATH = CAPABILITIES + "tails/{id}"
PROTOCOL = "trace-v1"

PING_S = 15.0
FILTERS_MAX = 16


class HeaderFilter(msgspec.Struct, frozen=True):
    key: str
    query: str = ""


class Filter(msgspec.Struct, frozen=True):
    """One of Cloudflare's filters: exactly one field is set. `query` is searched for in messages, exceptions and the
    address; `status` is our own. Of `outcome`, `unknown` stands for all that Cloudflare's tools have no word for."""

    sampling_rate: float | None = None
    outcome: list[str] | None = None
    method: list[str] | None = None
    header: HeaderFilter | None = None
    client_ip: list[str] | None = None
    query: str | None = None
    status: list[int] | None = None
    script_version: str | None = msgspec.field(name="scriptVersion", default=None)


class NewTail(msgspec.Struct, frozen=True):
    filters: list[Filter] = []


class TailResult(msgspec.Struct, frozen=True):
    id: str
    url: str
    expires_at: str


async def create_tail(call: Call[NoQuery, NewTail]) -> Result:
    script = call.script()
    tenant = script.current.tenant
    filters = _filters(call.body.filters)
    try:
        tail = await call.parts.observatory.tails.create(TenantKey(tenant.namespace, tenant.script), filters)
    except ValueError as error:
        raise ControlError(429, Code.INVALID, f"A tail could not be opened: {error}.") from None
    return Result(_describe(call, tail))


async def list_tails(call: Call[NoQuery, None]) -> Result:
    """Without the addresses: who opened a tail has its own."""
    tenant = call.script().current.tenant
    found = await call.parts.observatory.tails.of(TenantKey(tenant.namespace, tenant.script))
    return Result([TailResult(tail.id[:8], "", _expires(tail)) for tail in found])


async def delete_tail(call: Call[NoQuery, None]) -> Result:
    """One that is over already is closed too: clients close theirs when the server has ended it."""
    tenant = call.script().current.tenant
    tail = await call.parts.observatory.tails.find(call.path["id"])
    if tail is not None and tail.key == TenantKey(tenant.namespace, tenant.script):
        await call.parts.observatory.tails.delete(tail.id)
    return Result(None)


async def stream(parts: Parts, request: web.Request) -> web.StreamResponse:
    """The tail's events, until either side closes; then the tail is over."""
    tails = parts.observatory.tails
    tail = await tails.find(request.match_info["id"])
    if tail is None:
        raise ControlError(404, Code.NO_ROUTE, "There is no such tail.")
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise ControlError(426, Code.INVALID, "A tail is read from a WebSocket.", {"Upgrade": "websocket"})
    socket = web.WebSocketResponse(protocols=(PROTOCOL,), heartbeat=PING_S, max_msg_size=64 * 1024)
    await socket.prepare(request)
    sending = asyncio.create_task(_send(parts, tail, socket))
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await _change(parts, tail, message.data)
    finally:
        sending.cancel()
        await asyncio.wait((sending,))
        await tails.delete(tail.id)
    return socket


async def _send(parts: Parts, tail: Tail, socket: web.WebSocketResponse) -> None:
    with contextlib.suppress(ConnectionError):
        async for event in parts.observatory.tails.events(tail.id):
            await socket.send_str(event)
    await socket.close()


async def _change(parts: Parts, tail: Tail, message: str) -> None:
    """The reader may send other filters; what else it says has no effect."""
    with contextlib.suppress(msgspec.MsgspecError, ControlError):
        asked = msgspec.json.decode(message, type=dict[str, Any])
        if "filters" in asked:
            await parts.observatory.tails.set_filters(
                tail.id, _filters(msgspec.convert(asked["filters"], list[Filter]))
            )


def _filters(given: list[Filter]) -> Filters:
    if len(given) > FILTERS_MAX:
        raise invalid(f"filters: at most {FILTERS_MAX}.")
    rate, text, header, version = 1.0, "", None, ""
    outcomes: list[str] = []
    methods: list[str] = []
    statuses: list[int] = []
    for each in given:
        if each.client_ip:
            raise invalid("filters: workers are not told callers' addresses, so client_ip cannot be filtered by.")
        if each.sampling_rate is not None:
            if not 0 < each.sampling_rate <= 1:
                raise invalid("filters: sampling_rate must be above 0 and at most 1.")
            rate = each.sampling_rate
        outcomes += each.outcome or []
        methods += [method.upper() for method in each.method or []]
        statuses += each.status or []
        text = each.query or text
        version = each.script_version or version
        header = (each.header.key, each.header.query) if each.header else header
    return Filters(rate, tuple(outcomes), tuple(methods), tuple(statuses), text, header, version)


def _describe(call: Call[Any, Any], tail: Tail) -> TailResult:
    scheme = "wss" if call.request.secure else "ws"
    address = f"{scheme}://{call.request.host}{PATH.replace('{id}', tail.id)}"
    return TailResult(tail.id, address, _expires(tail))


def _expires(tail: Tail) -> str:
    return timestamp(datetime.fromtimestamp(tail.expires, UTC))


ROUTES = (
    *script_routes(
        "POST",
        "/tails",
        create_tail,
        "Open a live tail; its address is good for one reader",
        "read",
        body=JsonBody(NewTail, optional=True),
        result=TailResult,
        statuses=(429,),
    ),
    *script_routes("GET", "/tails", list_tails, "List the tails that are open", "read", result=list[TailResult]),
    *script_routes("DELETE", "/tails/{id}", delete_tail, "Close a tail", "read"),
)
