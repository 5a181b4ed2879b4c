"""How a route is declared. What serves requests and what the OpenAPI document says come from the same declaration."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote, unquote_to_bytes

import msgspec
from aiohttp import web

from host_bindings.scope import Tenant
from runtime.control.access import Access, Need, Reach
from runtime.control.envelope import Code, ControlError, invalid, success
from runtime.control.guard import ACCESS
from runtime.control.json_items import JsonItems
from runtime.control.parts import Parts
from runtime.registry import Namespace, Script, UnknownNamespace, UnknownScript
from runtime.settings import NAME_PATTERN

ACCOUNT = "local"
BASE = "/client/v4"

JSON_BYTES_MAX = 256 * 1024
BODY_S_MAX = 30.0

_ITEMS_AT_ONCE = 256
"""How many items of an array are read before others have their turn: 256 small ones take some milliseconds."""

Q = TypeVar("Q")
B = TypeVar("B")
Item = TypeVar("Item")


class NoQuery(msgspec.Struct, frozen=True):
    """Of routes that read nothing from the address's query."""


@dataclass(frozen=True)
class JsonBody:
    """A body of JSON, whatever its Content-Type says: clients differ in it."""

    type: Any
    bytes_max: int = JSON_BYTES_MAX
    optional: bool = False
    """An empty body counts as `{}`."""
    by_items: bool = False
    """The handler reads it, an array, with `read_items`."""


@dataclass(frozen=True)
class RawBody:
    """A body that the handler reads itself: a JSON schema by media type."""

    media: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class RawAnswer:
    """An answer that is no envelope: its media types."""

    media: Sequence[str]


@dataclass(frozen=True)
class Result:
    """What goes into an envelope."""

    value: object = None
    info: object = None
    messages: Sequence[str] = ()


Answer = Result | web.StreamResponse


@dataclass(frozen=True)
class Call(Generic[Q, B]):
    """One request, authenticated, allowed and read."""

    parts: Parts
    access: Access
    request: web.Request
    path: Mapping[str, str]
    namespace: Namespace | None
    """Of routes whose path names a script or a namespace; there is one, and it is the caller's to use."""
    query: Q
    body: B

    def script(self) -> Script:
        """The script that the path names. Raises `UnknownScript`."""
        assert self.namespace is not None
        found = self.parts.registry.script(self.namespace.name, self.path["script"])
        if found is None:
            raise UnknownScript(self.namespace.name, self.path["script"])
        return found

    @property
    def script_name(self) -> tuple[str, str]:
        assert self.namespace is not None
        return self.namespace.name, self.path["script"]

    @property
    def tenant(self) -> Tenant:
        assert self.namespace is not None
        return Tenant(self.namespace.key, self.path["script"])


Handler = Callable[[Call[Any, Any]], Awaitable[Answer]]


@dataclass(frozen=True)
class Route:
    """`path` is below /client/v4. `{name}` stands for one part of it, `{name*}` for all the rest, slashes included,
    even if that is nothing.

    `needs` and `reach` say who may call. `result` is the type of the envelope's result, or a `RawAnswer`.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    needs: Need
    reach: Reach
    result: Any = None
    query: type[msgspec.Struct] = NoQuery
    body: JsonBody | RawBody | None = None
    info: Any = None
    statuses: Sequence[int] = field(default=())
    """Error statuses besides 400, 401, 403 and 404."""

    @property
    def parameters(self) -> list[str]:
        return [name.rstrip("*") for name in re.findall(r"{([^}]+)}", self.path)]

    @property
    def family(self) -> str:
        """Of which kind of thing the route is, for people."""
        module = self.handler.__module__.rpartition(".")[2]
        if module == "resources":
            module = next(family for part, family in _GRANT_FAMILIES.items() if part in self.path)
        return _FAMILIES.get(module, module.capitalize())

    @property
    def pattern(self) -> str:
        """For aiohttp."""
        return BASE + self.path.replace("*}", r":[\s\S]*}")


_GRANT_FAMILIES = {"/storage/kv/": "kv_namespaces", "/r2/": "r2_buckets", "/d1/": "d1_databases"}
_FAMILIES = {
    "namespaces": "Dispatch namespaces",
    "content": "Components",
    "bound": "Stores behind bindings",
    "versions": "Versions and deployments",
    "kv_namespaces": "KV namespaces",
    "kv_values": "KV keys and values",
    "r2_buckets": "R2 buckets",
    "r2_objects": "R2 objects",
    "d1_databases": "D1 databases",
    "d1_queries": "D1 SQL",
    "d1_transfer": "D1 export, import and time travel",
}
"""By the module of the handlers."""

SCRIPT_PATHS = (
    "/accounts/{account}/workers/dispatch/namespaces/{namespace}/scripts/{script}",
    "/accounts/{account}/workers/scripts/{script}",
)
"""A script by its namespace, or of the namespace that the server serves: what Cloudflare's tools take for a Worker."""


def script_routes(method: str, suffix: str, handler: Handler, summary: str, needs: Need, **options: Any) -> list[Route]:
    """The same route under both of a script's addresses."""
    return [Route(method, path + suffix, handler, summary, needs, "script", **options) for path in SCRIPT_PATHS]


def serve(route: Route, parts: Parts) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A route as aiohttp takes it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        path = _path(route, request)
        access = request[ACCESS]
        if path.get("account", ACCOUNT) != ACCOUNT:
            shown = quote(request.path[:200])
            raise ControlError(404, Code.NO_ROUTE, f"Could not route to {shown}: the only account is {ACCOUNT!r}.")
        namespace = await _namespace(route, path, parts)
        tenant = Tenant(namespace.key, path["script"]) if namespace and "script" in path else None
        access.check(route.needs, route.reach, tenant)
        if namespace is None and ("namespace" in path or "script" in path):
            raise UnknownNamespace(path.get("namespace", parts.settings.namespace))
        query = _query(route.query, request)
        wanted = route.body
        body = await _json(wanted, request) if isinstance(wanted, JsonBody) and not wanted.by_items else None
        answer = await route.handler(Call(parts, access, request, path, namespace, query, body))
        return success(answer.value, answer.info, answer.messages) if isinstance(answer, Result) else answer

    return handle


def _path(route: Route, request: web.Request) -> dict[str, str]:
    found = dict(request.match_info)
    if route.path.endswith("*}"):
        # As it came, so that what is encoded twice, or is no UTF-8, is not mistaken for another key.
        name = route.parameters[-1]
        raw = request.rel_url.raw_path.split("/", route.pattern.count("/"))[-1]
        try:
            found[name] = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            raise invalid(f"{name}: is not UTF-8.") from None
    return found


async def _namespace(route: Route, path: Mapping[str, str], parts: Parts) -> Namespace | None:
    if "namespace" not in path and "script" not in path:
        return None
    name = path.get("namespace", parts.settings.namespace)
    if not NAME_PATTERN.fullmatch(name):
        return None
    return next((each for each in await parts.registry.list_namespaces() if each.name == name), None)


def _query(kind: type[Q], request: web.Request) -> Q:
    given = {name: value for name, value in request.query.items() if value != ""}
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(_sentence(error, "")) from None


async def _json(body: JsonBody, request: web.Request) -> Any:
    data = await read_body(request, body.bytes_max)
    if not data and body.optional:
        data = b"{}"
    try:
        return msgspec.json.decode(data, type=body.type)
    except msgspec.ValidationError as error:
        raise invalid(_sentence(error, "The body")) from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise invalid("The body is not JSON.") from None


async def read_items(call: Call[Any, Any], body: JsonBody, kind: type[Item], items_max: int) -> AsyncIterator[Item]:
    """The items of a body that is an array, as they arrive. Raises `ControlError`."""
    decode, items, count = msgspec.json.Decoder(kind).decode, JsonItems(), 0
    try:
        async for piece in _pieces(call.request, body.bytes_max):
            for text in items.feed(piece):
                yield decode(text)
                count += 1
                if count > items_max:
                    raise invalid(f"There are more than {items_max} items; send them in several requests.")
                if count % _ITEMS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            # What has arrived already would otherwise be worked on without a break.
            await asyncio.sleep(0)
        items.finish()
    except msgspec.ValidationError as error:
        raise invalid(_sentence(error, f"[{count}]", f"[{count}].")) from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise invalid("The body is not a JSON array.") from None


async def read_body(request: web.Request, bytes_max: int) -> bytes:
    """The whole body. Raises `ControlError`: 413 above the limit, 408 if it does not arrive."""
    return b"".join([piece async for piece in _pieces(request, bytes_max)])


async def _pieces(request: web.Request, bytes_max: int) -> AsyncIterator[bytes]:
    size = 0
    if (request.content_length or 0) > bytes_max:
        raise body_too_large(bytes_max)
    try:
        while True:
            async with asyncio.timeout(BODY_S_MAX):
                piece = await request.content.readany()
            if not piece:
                return
            size += len(piece)
            if size > bytes_max:
                raise body_too_large(bytes_max)
            yield piece
    except TimeoutError:
        raise ControlError(408, Code.INVALID, "The request's body did not arrive in time.") from None


def body_too_large(bytes_max: int) -> ControlError:
    return ControlError(413, Code.TOO_LARGE, f"The body is larger than {bytes_max} bytes.")


def _sentence(error: msgspec.ValidationError, subject: str, before: str = "") -> str:
    """msgspec says "Expected `int` >= 1 - at `$.limit`"."""
    expected, _, path = str(error).partition(" - at `$")
    name = path.rstrip("`").lstrip(".")
    said = expected[:1].lower() + expected[1:].replace("`", "")
    return f"{before + name if name else subject}: {said[:200]}."
