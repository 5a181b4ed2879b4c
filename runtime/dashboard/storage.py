"""Browsers for what a tenant keeps: KV keys and values, R2 objects, and one SQL statement at a time on D1.

Each needs a token with `data`. Storage is found by the binding of the version at work, as the worker itself finds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import web

from host_bindings.d1.database import Database, Statement, StatementResult
from host_bindings.d1.errors import D1Error
from host_bindings.d1.statements import split_statements
from host_bindings.r2 import options
from host_bindings.r2.store import Read
from runtime.control.envelope import Code, ControlError
from runtime.dashboard.guard import HEADERS
from runtime.dashboard.visit import Visit

PAGE_KEYS = 100
SHOWN_BYTES_MAX = 64 * 1024
HEX_BYTES_MAX = 4 * 1024
CELL_CHARACTERS_MAX = 1_000
ROWS_MAX = 500

_TABLES = Statement(
    "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite!_%' ESCAPE '!' "
    "AND name NOT LIKE '!_cf!_%' ESCAPE '!' ORDER BY name LIMIT 200"
)


@dataclass(frozen=True)
class Preview:
    """The beginning of a value, as text or else as hexadecimal digits."""

    text: str
    is_text: bool
    is_whole: bool


def preview(content: bytes, size: int) -> Preview:
    """`content` is the beginning of a value of `size` bytes."""
    shown = content[:SHOWN_BYTES_MAX]
    try:
        # A character may be cut in two at the end.
        text = shown.decode() if len(shown) == size else shown[: _last_start(shown)].decode()
        if "\0" not in text:
            return Preview(text, True, len(shown) == size)
    except UnicodeDecodeError:
        pass
    few = shown[:HEX_BYTES_MAX]
    lines = [few[start : start + 32].hex(" ", -2) for start in range(0, len(few), 32)]
    return Preview("\n".join(lines), False, len(few) == size)


def _last_start(content: bytes) -> int:
    """Where the last character begins."""
    position = len(content) - 1
    while position > 0 and content[position] & 0xC0 == 0x80:
        position -= 1
    return max(position, 0)


# KV


async def list_keys(visit: Visit) -> web.Response:
    tenant = await visit.tenant("data")
    prefix, cursor = visit.request.query.get("prefix", ""), visit.request.query.get("cursor", "")
    page = await tenant.scope.kv(tenant.binding).list(prefix, limit=PAGE_KEYS, cursor=cursor or None)
    return tenant.render("kv.html", keys=page.keys, cursor=page.cursor, prefix=prefix)


async def show_key(visit: Visit) -> web.Response:
    tenant = await visit.tenant("data")
    key = visit.request.query.get("key", "")
    entry = await tenant.scope.kv(tenant.binding).get(key)
    if entry is None:
        raise ControlError(404, Code.KV_KEY_NOT_FOUND, "There is no such key.")
    expires = None if entry.expiration is None else datetime.fromtimestamp(entry.expiration, UTC)
    size = len(entry.value)
    shown = preview(entry.value, size)
    return tenant.render("kv_value.html", key=key, entry=entry, expires=expires, size=size, shown=shown)


# R2


async def list_objects(visit: Visit) -> web.Response:
    """One folder, where `/` in keys divides folders."""
    tenant = await visit.tenant("data")
    prefix, cursor = visit.request.query.get("prefix", ""), visit.request.query.get("cursor", "")
    page = await tenant.scope.r2(tenant.binding).list(
        prefix=prefix, delimiter="/", start_after=None, cursor=cursor or None, limit=PAGE_KEYS, include=options.INCLUDE
    )
    objects = [(each, datetime.fromtimestamp(each.uploaded_ms / 1000, UTC)) for each in page.objects]
    return tenant.render("r2.html", objects=objects, folders=page.prefixes, cursor=page.cursor, prefix=prefix)


async def show_object(visit: Visit) -> web.Response:
    tenant = await visit.tenant("data")
    key, found = await _object(visit)
    content = b""
    if found.body is not None:
        try:
            while len(content) < SHOWN_BYTES_MAX and (piece := await found.body.read(SHOWN_BYTES_MAX)):
                content += piece
        finally:
            found.body.close()
    stored = found.object
    return tenant.render(
        "r2_object.html",
        key=key,
        object=stored,
        uploaded=datetime.fromtimestamp(stored.uploaded_ms / 1000, UTC),
        metadata={**msgspec.json.decode(stored.http_metadata_json), **msgspec.json.decode(stored.custom_metadata_json)},
        shown=preview(content, stored.size),
    )


async def download_object(visit: Visit) -> web.StreamResponse:
    """To be kept, never to be shown: a tenant chose what it is."""
    key, found = await _object(visit)
    name = quote(key.rsplit("/", 1)[-1] or "object", safe="", errors="replace")
    headers = {
        **HEADERS,
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    response = web.StreamResponse(headers=headers)
    response.content_length = found.object.size
    if found.body is None:
        return response
    try:
        await response.prepare(visit.request)
        async for chunk in found.body.chunks():
            await response.write(chunk)
        await response.write_eof()
    finally:
        found.body.close()
    return response


async def _object(visit: Visit) -> tuple[str, Read]:
    tenant = await visit.tenant("data")
    key = visit.request.query.get("key", "")
    found = await tenant.scope.r2(tenant.binding).get(key)
    if found is None:
        raise ControlError(404, Code.R2_OBJECT_NOT_FOUND, "There is no such object.")
    return key, found


# D1


async def show_database(visit: Visit) -> web.Response:
    tenant = await visit.tenant("data")
    tables = await _tables(tenant.scope.d1(tenant.binding))
    return tenant.render("d1.html", tables=tables, sql="", result=None, rows=[], message="")


async def run_statement(visit: Visit) -> web.Response:
    tenant = await visit.tenant("data")
    database = tenant.scope.d1(tenant.binding)
    sql, result, message = visit.form.get("sql", ""), None, ""
    try:
        result = await _run(database, sql)
    except D1Error as error:
        message = error.message.removeprefix("D1_ERROR: ")
    rows = [[_cell(value) for value in row] for row in result.rows[:ROWS_MAX]] if result else []
    tables = await _tables(database)
    status = 400 if message else 200
    return tenant.render("d1.html", status=status, tables=tables, sql=sql, result=result, rows=rows, message=message)


async def _run(database: Database, sql: str) -> StatementResult:
    statements = split_statements(sql)
    if len(statements) != 1:
        raise D1Error(f"There are {len(statements)} statements; write one.")
    (result,) = await database.query([Statement(statements[0])])
    return result


async def _tables(database: Database) -> list[str]:
    (result,) = await database.query([_TABLES])
    return [str(row[0]) for row in result.rows]


def _cell(value: Any) -> str | None:
    """None is NULL."""
    if value is None:
        return None
    text = f"X'{value[: CELL_CHARACTERS_MAX // 2].hex()}'" if isinstance(value, bytes) else str(value)
    return text if len(text) <= CELL_CHARACTERS_MAX else text[:CELL_CHARACTERS_MAX] + "…"
