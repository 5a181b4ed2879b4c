"""A D1 database as a file of SQL, in and out, and its time travel.

Export and import are done when they are answered: what clients poll for is complete at the first look.
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import ClientError, web

from host_bindings.d1.errors import D1Error
from host_bindings.d1.limits import SqlLimits
from host_bindings.d1.requests import DumpOptions
from runtime.control.d1_databases import DATABASE, find, store
from runtime.control.d1_queries import sql_error
from runtime.control.envelope import ANSWER_HEADERS, Code, ControlError, invalid
from runtime.control.guard import CAPABILITIES
from runtime.control.routes import BODY_S_MAX, Call, JsonBody, NoQuery, Result, Route
from runtime.control.transfers import Transfer, Transfers

IMPORT_BYTES_MAX = SqlLimits().import_bytes

_MD5 = r"^[0-9a-fA-F]{32}$"
_CHUNK_BYTES = 256 * 1024


class ExportRequest(msgspec.Struct, frozen=True):
    output_format: Literal["polling"] = "polling"
    current_bookmark: str | None = None
    dump_options: DumpOptions | None = None


class ExportedFile(msgspec.Struct, frozen=True):
    filename: str
    signed_url: str


class ExportResult(msgspec.Struct, frozen=True):
    success: bool
    type: str
    at_bookmark: str
    status: str
    messages: list[str]
    result: ExportedFile


class ImportRequest(msgspec.Struct, frozen=True):
    """`init` with the MD5 of the file, then the upload to the address that it gives, then `ingest`."""

    action: Literal["init", "ingest", "poll"]
    etag: Annotated[str, msgspec.Meta(pattern=_MD5)] | None = None
    filename: str | None = None
    current_bookmark: str | None = None


class ImportResult(msgspec.Struct, frozen=True, omit_defaults=True):
    success: bool
    type: str
    messages: list[str]
    filename: str | None = None
    upload_url: str | None = None
    at_bookmark: str | None = None
    status: str | None = None
    result: dict[str, Any] | None = None


class MomentQuery(msgspec.Struct, frozen=True):
    """A time (ISO 8601) or a bookmark; neither is the present."""

    timestamp: datetime | None = None
    bookmark: str | None = None


class BookmarkResult(msgspec.Struct, frozen=True):
    bookmark: str


class RestoreResult(msgspec.Struct, frozen=True):
    bookmark: str
    previous_bookmark: str | None
    message: str


async def export(call: Call[NoQuery, ExportRequest]) -> Result:
    record = await find(call)
    transfer = await call.parts.transfers.open(call.access.tenant, record.id, upload=False)
    try:
        bookmark = await store(call, record).export(transfer.path, call.body.dump_options)
    except D1Error as error:
        raise sql_error(error) from None
    transfer.complete = True
    filename = f"{record.id}-{bookmark[:17]}.sql"
    file = ExportedFile(filename, _address(call, transfer))
    return Result(ExportResult(True, "export", bookmark, "complete", ["Export complete"], file))


async def import_(call: Call[NoQuery, ImportRequest]) -> Result:
    record = await find(call)
    body = call.body
    if body.action == "init":
        if body.etag is None:
            raise invalid("etag: is missing; it is the MD5 of the file, in hexadecimal digits.")
        transfer = await call.parts.transfers.open(call.access.tenant, record.id, upload=True, etag=body.etag.lower())
        return Result(ImportResult(True, "import", [], f"{transfer.id}.sql", _address(call, transfer)))
    if body.action == "poll":
        raise invalid("Nothing is under way: an import is done when `ingest` is answered.")
    found = call.parts.transfers.find((body.filename or "").removesuffix(".sql"), upload=True)
    if found is None or not found.complete or found.resource != record.id or found.etag != (body.etag or "").lower():
        raise invalid("filename: no file of this name and MD5 has been uploaded for this database.")
    database = store(call, record)
    try:
        done = await database.import_file(found.path)
        bookmark = await database.bookmark()
    except D1Error as error:
        raise sql_error(error) from None
    meta = {
        "served_by": "cloister",
        "duration": done.duration,
        "rows_read": 0,
        "rows_written": done.rows_written,
        "changes": done.rows_written,
        "changed_db": True,
        "size_after": done.size_after,
        "last_row_id": 0,
    }
    result = {"num_queries": done.num_queries, "final_bookmark": bookmark, "meta": meta}
    messages = [f"Processed {done.num_queries} queries."]
    return Result(ImportResult(True, "import", messages, at_bookmark=bookmark, status="complete", result=result))


async def get_bookmark(call: Call[MomentQuery, None]) -> Result:
    try:
        bookmark = await store(call, await find(call)).bookmark(_utc(call.query.timestamp))
    except D1Error as error:
        raise sql_error(error) from None
    return Result(BookmarkResult(bookmark))


async def restore(call: Call[MomentQuery, None]) -> Result:
    query = call.query
    if (query.timestamp is None) == (query.bookmark is None):
        raise invalid("Give either `timestamp` or `bookmark`.")
    try:
        travel = await store(call, await find(call)).restore(at=_utc(query.timestamp), bookmark=query.bookmark)
    except D1Error as error:
        raise sql_error(error) from None
    message = "The database is as it was. To undo this, restore the previous bookmark."
    return Result(RestoreResult(travel.bookmark, travel.previous_bookmark, message))


def add_transfer_routes(application: web.Application, transfers: Transfers) -> None:
    """The addresses to which files go and from which they come, below `CAPABILITIES`: the id in them is the leave."""

    async def upload(request: web.Request) -> web.StreamResponse:
        transfer = transfers.find(request.match_info["id"], upload=True)
        if transfer is None:
            raise _gone()
        await _receive(request, transfer)
        transfer.complete = True
        return web.Response(headers={**ANSWER_HEADERS, "ETag": f'"{transfer.etag}"'})

    async def download(request: web.Request) -> web.StreamResponse:
        transfer = transfers.find(request.match_info["id"], upload=False)
        if transfer is None or not transfer.complete:
            raise _gone()
        return web.FileResponse(transfer.path, headers={**ANSWER_HEADERS, "Content-Type": "application/sql"})

    application.router.add_put(f"{CAPABILITIES}{{id}}", upload)
    application.router.add_get(f"{CAPABILITIES}{{id}}", download)


async def _receive(request: web.Request, transfer: Transfer) -> None:
    """Takes the file in. Raises `ControlError` if it is too large, breaks off, or is not the one that was announced."""
    draft = transfer.directory / "draft.sql"
    state, size = hashlib.md5(usedforsecurity=False), 0
    with await asyncio.to_thread(draft.open, "wb") as file:
        while chunk := await _chunk(request):
            size += len(chunk)
            if size > IMPORT_BYTES_MAX:
                raise ControlError(413, Code.TOO_LARGE, f"The file is larger than {IMPORT_BYTES_MAX} bytes.")
            state.update(chunk)
            await asyncio.to_thread(file.write, chunk)
    if state.hexdigest() != transfer.etag:
        raise invalid("The file does not have the MD5 that was announced.")
    await asyncio.to_thread(draft.replace, transfer.path)


async def _chunk(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_S_MAX):
            return await request.content.read(_CHUNK_BYTES)
    except (TimeoutError, ClientError, web.RequestPayloadError, ConnectionError):
        raise ControlError(408, Code.INVALID, "The file did not arrive whole.") from None


def _address(call: Call[Any, Any], transfer: Transfer) -> str:
    return f"{call.request.url.origin()}{CAPABILITIES}{transfer.id}"


def _gone() -> ControlError:
    return ControlError(404, Code.NO_ROUTE, "There is no such file, or its hour is over.")


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


ROUTES = (
    Route(
        "POST",
        f"{DATABASE}/export",
        export,
        "Export a database as SQL",
        "data",
        "resource",
        ExportResult,
        body=JsonBody(ExportRequest),
        statuses=(408, 413),
    ),
    Route(
        "POST",
        f"{DATABASE}/import",
        import_,
        "Import SQL into a database, all or nothing",
        "data",
        "resource",
        ImportResult,
        body=JsonBody(ImportRequest),
        statuses=(408, 413),
    ),
    Route(
        "GET",
        f"{DATABASE}/time_travel/bookmark",
        get_bookmark,
        "Name a state of a database",
        "data",
        "resource",
        BookmarkResult,
        query=MomentQuery,
    ),
    Route(
        "POST",
        f"{DATABASE}/time_travel/restore",
        restore,
        "Bring a database back to an earlier state",
        "data",
        "resource",
        RestoreResult,
        query=MomentQuery,
    ),
)
