"""KV namespaces: create, list, show, rename, delete."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

import msgspec

from runtime.control import resources
from runtime.control.envelope import invalid
from runtime.control.routes import Call, JsonBody, NoQuery, Result, Route
from runtime.control.versions import PageInfo
from runtime.registry import ResourceRecord

COLLECTION = "/accounts/{account}/storage/kv/namespaces"
NAMESPACE = f"{COLLECTION}/{{kv_namespace}}"

TITLE_CHARACTERS_MAX = 512


class KVTitle(msgspec.Struct, frozen=True):
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=TITLE_CHARACTERS_MAX)]


class KVNamespaceResult(msgspec.Struct, frozen=True):
    id: str
    title: str
    supports_url_encoding: bool = True


class KVListQuery(msgspec.Struct, frozen=True):
    page: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1
    per_page: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    order: Literal["id", "title"] = "title"
    direction: Literal["asc", "desc"] = "asc"


async def list_namespaces(call: Call[KVListQuery, None]) -> Result:
    query = call.query
    shown = [_result(record, call) for record in await resources.visible(call, "kv_namespace")]
    shown.sort(key=lambda each: getattr(each, query.order), reverse=query.direction == "desc")
    page = shown[(query.page - 1) * query.per_page : query.page * query.per_page]
    return Result(page, PageInfo(query.page, query.per_page, len(page), len(shown)))


async def create_namespace(call: Call[NoQuery, KVTitle]) -> Result:
    created = await resources.create(call, "kv_namespace", secrets.token_hex(16), _title(call))
    return Result(_result(created, call))


async def get_namespace(call: Call[NoQuery, None]) -> Result:
    return Result(_result(await resources.find(call, "kv_namespace", call.path["kv_namespace"]), call))


async def rename_namespace(call: Call[NoQuery, KVTitle]) -> Result:
    record = await resources.find(call, "kv_namespace", call.path["kv_namespace"])
    resources.check_owner(call, record)
    renamed = await call.parts.registry.resources.rename("kv_namespace", record.id, _title(call))
    return Result(_result(renamed, call))


async def delete_namespace(call: Call[NoQuery, None]) -> Result:
    record = await resources.find(call, "kv_namespace", call.path["kv_namespace"])
    await resources.delete(call, record)
    return Result(None)


def _title(call: Call[Any, KVTitle]) -> str:
    if not call.body.title.isprintable():
        raise invalid("title: must be printable characters.")
    return call.body.title


def _result(record: ResourceRecord, call: Call[Any, Any]) -> KVNamespaceResult:
    return KVNamespaceResult(resources.shown_id(record, call.access), record.name)


_ONE = KVNamespaceResult

ROUTES = (
    Route(
        "GET",
        COLLECTION,
        list_namespaces,
        "List KV namespaces",
        "read",
        "own",
        list[KVNamespaceResult],
        query=KVListQuery,
        info=PageInfo,
    ),
    Route("POST", COLLECTION, create_namespace, "Create a KV namespace", "data", "own", _ONE, body=JsonBody(KVTitle)),
    Route("GET", NAMESPACE, get_namespace, "Show a KV namespace", "read", "resource", _ONE),
    Route(
        "PUT", NAMESPACE, rename_namespace, "Rename a KV namespace", "data", "resource", _ONE, body=JsonBody(KVTitle)
    ),
    Route("DELETE", NAMESPACE, delete_namespace, "Delete a KV namespace", "data", "resource", statuses=(409,)),
    *resources.grant_routes("kv_namespace", NAMESPACE, "kv_namespace"),
)
