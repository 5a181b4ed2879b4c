"""A script's component: shown as it was uploaded, or replaced with the configuration left as it is."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
from aiohttp import web

from runtime.artifacts import ArtifactError
from runtime.control.envelope import ANSWER_HEADERS, Code, ControlError, invalid
from runtime.control.publishing import UPLOAD_BODY, UploadQuery, store
from runtime.control.routes import Call, RawAnswer, Result, script_routes
from runtime.control.settings import change_content
from runtime.control.shapes import UploadResult, upload_result
from runtime.control.upload import receive_upload
from runtime.registry import Content, Module, Version

_CHUNK_BYTES = 256 * 1024
WASM = "application/wasm"


class ContentQuery(msgspec.Struct, frozen=True):
    """`version`: the id of a version; without it the one at work."""

    version: str | None = None


async def get_content(call: Call[ContentQuery, None]) -> web.StreamResponse:
    version = await _version(call)
    headers = {**ANSWER_HEADERS, "cf-entrypoint": version.content.module.name, "ETag": f'"{version.artifact}"'}
    async with contextlib.AsyncExitStack() as stack:
        try:
            path = await stack.enter_async_context(call.parts.artifacts.original(version.artifact))
        except ArtifactError as error:
            raise ControlError(500, Code.INTERNAL, error.message) from None
        response = web.StreamResponse(headers=headers)
        response.content_type = WASM
        response.content_length = path.stat().st_size
        await response.prepare(call.request)
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                await response.write(chunk)
        await response.write_eof()
    return response


async def put_content(call: Call[UploadQuery, None]) -> Result:
    """A new component under the same bindings and limits."""
    before = call.script()
    parts = call.parts
    upload = receive_upload(call.request, parts.settings.uploads_directory, parts.settings.upload_bytes_max)
    async with parts.uploads, upload as received, parts.collection.deploying():
        if len(received.files) != 1:
            raise invalid("There must be exactly one part with the component.")
        component = received.files[0]
        digest = await store(parts, component)
        old = before.current.content.module
        module = Module(
            component.filename or component.field_name or old.name, old.compatibility_date, old.compatibility_flags
        )
        version = await change_content(
            call, "upload", lambda content: Content(digest, content.bindings, content.limits, module)
        )
    return Result(upload_result(call.script(), version, call.parts.stopped))


async def _version(call: Call[ContentQuery, None]) -> Version:
    if call.query.version is None:
        return call.script().current
    return await call.parts.registry.version(*call.script_name, call.query.version)


ROUTES = (
    *script_routes(
        "GET",
        "/content",
        get_content,
        "Download a script's component",
        "deploy",
        result=RawAnswer((WASM,)),
        query=ContentQuery,
    ),
    *script_routes(
        "GET",
        "/content/v2",
        get_content,
        "Download a script's component",
        "deploy",
        result=RawAnswer((WASM,)),
        query=ContentQuery,
    ),
    *script_routes(
        "PUT",
        "/content",
        put_content,
        "Replace a script's component and nothing else",
        "deploy",
        result=UploadResult,
        query=UploadQuery,
        body=UPLOAD_BODY,
        statuses=(408, 409, 413, 415, 429, 507),
    ),
)
