"""D1 databases: create, list, show, rename, delete."""

from __future__ import annotations

import re
import uuid
from typing import Annotated, Any

import msgspec

from host_bindings.d1.database import Database, Statement
from runtime.control import resources
from runtime.control.envelope import invalid
from runtime.control.routes import Call, JsonBody, NoQuery, Result, Route
from runtime.control.shapes import timestamp
from runtime.control.versions import PageInfo
from runtime.registry import ResourceRecord, UnknownResource

COLLECTION = "/accounts/{account}/d1/database"
DATABASE = f"{COLLECTION}/{{database}}"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")

_TABLES = Statement(
    "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!' "
    "AND name NOT LIKE '!_cf!_%' ESCAPE '!'"
)


class NewDatabase(msgspec.Struct, frozen=True):
    """Where it lies has no meaning on one machine; that is let pass."""

    name: str
    primary_location_hint: str | None = None
    jurisdiction: str | None = None
    read_replication: dict[str, Any] | None = None


class DatabaseChange(msgspec.Struct, frozen=True):
    name: str | None = None
    read_replication: dict[str, Any] | None = None


class DatabaseResult(msgspec.Struct, frozen=True):
    """`file_size` in bytes; it and `num_tables` are None in listings."""

    uuid: str
    name: str
    version: str
    created_at: str
    file_size: int | None = None
    num_tables: int | None = None
    read_replication: dict[str, str] = msgspec.field(default_factory=lambda: {"mode": "disabled"})
    jurisdiction: str | None = None


class DatabasesQuery(msgspec.Struct, frozen=True):
    name: str = ""
    page: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1
    per_page: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000


async def list_databases(call: Call[DatabasesQuery, None]) -> Result:
    query = call.query
    shown = [_result(record, call) for record in await resources.visible(call, "d1") if query.name in record.name]
    page = shown[(query.page - 1) * query.per_page : query.page * query.per_page]
    return Result(page, PageInfo(query.page, query.per_page, len(page), len(shown)))


async def create_database(call: Call[NoQuery, NewDatabase]) -> Result:
    created = await resources.create(call, "d1", str(uuid.uuid4()), _checked(call.body.name))
    return Result(await _whole_result(created, call))


async def get_database(call: Call[NoQuery, None]) -> Result:
    return Result(await _whole_result(await find(call), call))


async def change_database(call: Call[NoQuery, DatabaseChange]) -> Result:
    record = await find(call)
    resources.check_owner(call, record)
    if call.body.name is not None:
        record = await call.parts.registry.resources.rename("d1", record.id, _checked(call.body.name))
    return Result(await _whole_result(record, call))


async def delete_database(call: Call[NoQuery, None]) -> Result:
    await resources.delete(call, await find(call))
    return Result(None)


async def find(call: Call[Any, Any]) -> ResourceRecord:
    """By id or, as the tools take it, by name."""
    given = call.path["database"]
    try:
        return await resources.find(call, "d1", given)
    except UnknownResource:
        named = [record for record in await resources.visible(call, "d1") if record.name == given]
        if len(named) == 1:
            return named[0]
        raise


def store(call: Call[Any, Any], record: ResourceRecord) -> Database:
    return call.parts.resources.d1(record.owner, record.resource_id)


async def _whole_result(record: ResourceRecord, call: Call[Any, Any]) -> DatabaseResult:
    (result,) = await store(call, record).query([_TABLES])
    shown = _result(record, call)
    return msgspec.structs.replace(shown, file_size=result.meta.size_after, num_tables=result.rows[0][0])


def _result(record: ResourceRecord, call: Call[Any, Any]) -> DatabaseResult:
    return DatabaseResult(
        resources.shown_id(record, call.access), record.name, "production", timestamp(record.created_on)
    )


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise invalid("name: must be 1 to 128 letters, digits, '-', '_' and '.', beginning with a letter or digit.")
    return name


_ONE = DatabaseResult

ROUTES = (
    Route(
        "GET",
        COLLECTION,
        list_databases,
        "List D1 databases",
        "read",
        "own",
        list[DatabaseResult],
        query=DatabasesQuery,
        info=PageInfo,
    ),
    Route("POST", COLLECTION, create_database, "Create a D1 database", "data", "own", _ONE, body=JsonBody(NewDatabase)),
    Route("GET", DATABASE, get_database, "Show a D1 database", "read", "resource", _ONE),
    *(
        Route(
            method,
            DATABASE,
            change_database,
            "Rename a D1 database",
            "data",
            "resource",
            _ONE,
            body=JsonBody(DatabaseChange),
        )
        for method in ("PUT", "PATCH")
    ),
    Route("DELETE", DATABASE, delete_database, "Delete a D1 database", "data", "resource", statuses=(409,)),
    *resources.grant_routes("d1", DATABASE, "database"),
)
