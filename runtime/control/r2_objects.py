"""The objects of a bucket: list, upload, download, delete. Bodies stream in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated, Any

import msgspec
from aiohttp import ClientError, web

from host_bindings.body import Body
from host_bindings.contract import Failure
from host_bindings.r2 import options
from host_bindings.r2.binding import KEY_BYTES_MAX, OBJECT_BYTES_MAX
from host_bindings.r2.errors import R2Error
from host_bindings.r2.objects import StoredObject
from host_bindings.r2.store import Bucket
from runtime.control.envelope import ANSWER_HEADERS, Code, ControlError, invalid
from runtime.control.r2_buckets import BUCKET, find
from runtime.control.refusals import failed
from runtime.control.routes import BODY_S_MAX, Call, JsonBody, NoQuery, RawAnswer, RawBody, Result, Route
from runtime.control.shapes import timestamp

_HTTP_METADATA = ("content-type", "content-language", "content-disposition", "content-encoding", "cache-control")
_CONDITIONS = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")

_STATUSES: Mapping[int, int] = {10007: 404, 10012: 400, 10020: 400, 10022: 400, 10037: 400, 10039: 416, 100100: 413}
"""HTTP's statuses for R2's error numbers; of others 500."""


class ObjectsQuery(msgspec.Struct, frozen=True):
    prefix: str = ""
    delimiter: str = ""
    cursor: str = ""
    start_after: str = ""
    per_page: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1000


class ObjectResult(msgspec.Struct, frozen=True):
    key: str
    size: int
    etag: str
    last_modified: str
    http_metadata: dict[str, Any]
    custom_metadata: dict[str, str]
    storage_class: str


class ObjectsInfo(msgspec.Struct, frozen=True):
    cursor: str
    is_truncated: bool
    per_page: int
    delimited: list[str]


class UploadedObject(msgspec.Struct, frozen=True):
    """Sizes are text here, as Cloudflare has them."""

    key: str
    etag: str
    size: str
    version: str
    uploaded: str
    storage_class: str


class DeletedObject(msgspec.Struct, frozen=True):
    key: str


async def list_objects(call: Call[ObjectsQuery, None]) -> Result:
    query = call.query
    bucket = await _bucket(call)
    async with _refusals():
        page = await bucket.list(
            prefix=query.prefix,
            delimiter=query.delimiter,
            start_after=query.start_after or None,
            cursor=query.cursor or None,
            limit=query.per_page,
            include=options.INCLUDE,
        )
    info = ObjectsInfo(page.cursor or "", page.cursor is not None, query.per_page, list(page.prefixes))
    return Result([_object(each) for each in page.objects], info)


async def get_object(call: Call[NoQuery, None]) -> web.StreamResponse:
    bucket, request = await _bucket(call), call.request
    sent = {name: request.headers[name] for name in _CONDITIONS if name in request.headers}
    given: dict[str, Any] = {}
    if sent:
        given["onlyIf"] = {"headers": "".join(f"{name.lower()}: {value}\n" for name, value in sent.items())}
    if "Range" in request.headers:
        given["range"] = {"headers": f"range: {request.headers['Range']}\n"}
    async with _refusals():
        key = _key(call)
        conditions, wanted = options.conditions(given, "GetOptions"), options.byte_range(given)
        found = await bucket.get(key, conditions=conditions, range=wanted)
        if found is None:
            raise ControlError(404, Code.R2_OBJECT_NOT_FOUND, "The specified key does not exist.")
        headers = _headers(found.object)
        if found.body is None:
            unmodified = "If-None-Match" in sent or "If-Modified-Since" in sent
            return web.Response(status=304 if unmodified else 412, headers=headers)
        offset, length = found.range
        response = web.StreamResponse(status=200 if length == found.object.size else 206, headers=headers)
        if response.status == 206:
            response.headers["Content-Range"] = f"bytes {offset}-{offset + length - 1}/{found.object.size}"
        response.content_length = length
        await _send(request, response, found.body)
    return response


async def put_object(call: Call[NoQuery, None]) -> Result:
    bucket, request = await _bucket(call), call.request
    headers = "".join(f"{name}: {request.headers[name]}\n" for name in _HTTP_METADATA if name in request.headers)
    headers += f"expires: {request.headers['Expires']}\n" if "Expires" in request.headers else ""
    given: dict[str, Any] = {"httpMetadata": {"headers": headers}}
    if "cf-r2-storage-class" in request.headers:
        given["storageClass"] = request.headers["cf-r2-storage-class"]
    async with _refusals():
        key, attributes = _key(call), options.attributes(given, "PutOptions")
        options.check_metadata_size(attributes)
        stored = await bucket.put(key, _Incoming(request), attributes=attributes, size_max=OBJECT_BYTES_MAX)
    assert stored is not None
    uploaded = timestamp(datetime.fromtimestamp(stored.uploaded_ms / 1000, UTC))
    return Result(
        UploadedObject(stored.key, stored.etag, str(stored.size), stored.version, uploaded, stored.storage_class)
    )


async def delete_object(call: Call[NoQuery, None]) -> Result:
    bucket = await _bucket(call)
    async with _refusals():
        key = _key(call)
        await bucket.delete([key])
    return Result(DeletedObject(key))


async def delete_objects(call: Call[NoQuery, list[str]]) -> Result:
    bucket = await _bucket(call)
    if len(call.body) > 1000:
        raise invalid("At most 1000 keys can be deleted at once.")
    async with _refusals():
        await bucket.delete([_checked(key) for key in call.body])
    return Result([DeletedObject(key) for key in call.body])


class _Incoming(Body):
    """A request's body as it comes in."""

    def __init__(self, request: web.Request) -> None:
        self.length = request.content_length
        self._content = request.content

    async def read(self, limit: int) -> bytes:
        try:
            async with asyncio.timeout(BODY_S_MAX):
                return await self._content.read(limit)
        except (TimeoutError, ClientError, web.RequestPayloadError, ConnectionError):
            raise Failure("Error", "The body did not arrive whole.") from None


async def _send(request: web.Request, response: web.StreamResponse, body: Body) -> None:
    try:
        await response.prepare(request)
        if request.method != "HEAD":
            async for chunk in body.chunks():
                await response.write(chunk)
        await response.write_eof()
    finally:
        body.close()


async def _bucket(call: Call[Any, Any]) -> Bucket:
    record = await find(call)
    return call.parts.resources.r2(record.owner, record.resource_id)


def _key(call: Call[Any, Any]) -> str:
    return _checked(call.path["key"])


def _checked(key: str) -> str:
    if len(key.encode("utf-8", "surrogatepass")) > KEY_BYTES_MAX:
        raise ControlError(400, 10020, "The specified object name is not valid.")
    return key


def _object(found: StoredObject) -> ObjectResult:
    return ObjectResult(
        key=found.key,
        size=found.size,
        etag=found.etag,
        last_modified=timestamp(datetime.fromtimestamp(found.uploaded_ms / 1000, UTC)),
        http_metadata=msgspec.json.decode(found.http_metadata_json),
        custom_metadata=msgspec.json.decode(found.custom_metadata_json),
        storage_class=found.storage_class,
    )


def _headers(found: StoredObject) -> dict[str, str]:
    """What was stored with the object. A tenant chose its type, so that no browser is to run what is in it."""
    stored = msgspec.json.decode(found.http_metadata_json)
    headers = dict(ANSWER_HEADERS)
    headers["Content-Type"] = "application/octet-stream"
    for name, header in options.HTTP_METADATA.items():
        value = stored.get(name)
        if isinstance(value, str) and value.isprintable() and value.isascii():
            headers[header.title()] = value
    headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    headers["ETag"] = f'"{found.etag}"'
    modified = datetime.fromtimestamp(found.uploaded_ms // 1000, UTC)
    headers["Last-Modified"] = format_datetime(modified, usegmt=True)
    return headers


@asynccontextmanager
async def _refusals() -> AsyncIterator[None]:
    """Gives R2's errors their number and HTTP's status."""
    try:
        yield
    except R2Error as error:
        raise ControlError(_STATUSES.get(error.code, 500), error.code, error.message) from None
    except Failure as failure:
        raise failed(failure, Code.R2_INTERNAL) from None


_ANY = RawAnswer(("application/octet-stream", "*/*"))
_BYTES = RawBody({"application/octet-stream": {"type": "string", "format": "binary"}})
_OBJECTS = f"{BUCKET}/objects"
_OBJECT = f"{_OBJECTS}/{{key*}}"
"""To R2 the empty key is a key: the address ends in a slash."""

ROUTES = (
    Route(
        "GET",
        _OBJECTS,
        list_objects,
        "List objects",
        "data",
        "resource",
        list[ObjectResult],
        query=ObjectsQuery,
        info=ObjectsInfo,
    ),
    Route(
        "DELETE",
        _OBJECTS,
        delete_objects,
        "Delete up to 1,000 objects",
        "data",
        "resource",
        list[DeletedObject],
        body=JsonBody(list[str], bytes_max=2 * 1024 * 1024),
        statuses=(408, 413),
    ),
    Route("GET", _OBJECT, get_object, "Download an object", "data", "resource", _ANY, statuses=(304, 412, 416)),
    Route(
        "PUT",
        _OBJECT,
        put_object,
        "Upload an object",
        "data",
        "resource",
        UploadedObject,
        body=_BYTES,
        statuses=(408, 413),
    ),
    Route("DELETE", _OBJECT, delete_object, "Delete an object", "data", "resource", DeletedObject),
)
