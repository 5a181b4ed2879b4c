"""What a guest imports as R2: validation in Cloudflare's order, with its limits and its error texts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from host_bindings.body import Body, Payload
from host_bindings.context import GuestContext
from host_bindings.contract import (
    FAILURE,
    S32,
    Failure,
    HostFunction,
    Interface,
    ListOf,
    OptionOf,
    Own,
    Record,
    ResultOf,
    String,
)
from host_bindings.options import parse_json, parse_options, to_int32, to_text
from host_bindings.payload import BODY, PAYLOAD
from host_bindings.r2 import options as read
from host_bindings.r2.errors import R2Error, invalid_object_name
from host_bindings.r2.objects import StoredObject
from host_bindings.r2.uploads import NamedPart
from host_bindings.storage.failures import StorageFailure

KEY_BYTES_MAX = 1024
OBJECT_BYTES_MAX = 5 * 1024**3 - 5 * 1024**2
"""Of one put or one part."""
DELETE_KEYS_MAX = 1000
PART_NUMBER_MAX = 10_000

OBJECT = Record((("info", String), ("body", OptionOf(Own(BODY)))))
"""WIT's `r2.object`. In Python: (info, body)."""


async def head(context: GuestContext, binding: str, key: str) -> str | None:
    bucket = context.scope.r2(binding)
    async with _operation("head"):
        _check_key(key)
        found = await bucket.head(key)
        return None if found is None else _info(found, (0, found.size))


async def get(context: GuestContext, binding: str, key: str, options: str) -> tuple[str, Body | None] | None:
    bucket = context.scope.r2(binding)
    given = parse_options(options)
    conditions = read.conditions(given, "GetOptions")
    wanted = read.byte_range(given)
    read.refuse_key(given)
    async with _operation("get"):
        _check_key(key)
        found = await bucket.get(key, conditions=conditions, range=wanted)
        return None if found is None else (_info(found.object, found.range), found.body)


async def put(context: GuestContext, binding: str, key: str, value: Payload, options: str) -> str | None:
    async with _operation("put"), _closing(value):
        bucket = context.scope.r2(binding)
        given = parse_options(options)
        # Arguments are converted before headers are parsed.
        attributes = read.attributes(given, "PutOptions")
        conditions = read.conditions(given, "PutOptions")
        checksum = read.checksum(given)
        read.refuse_key(given)
        _check_key(key)
        read.check_metadata_size(attributes)
        stored = await bucket.put(
            key, value, attributes=attributes, conditions=conditions, checksum=checksum, size_max=OBJECT_BYTES_MAX
        )
        return None if stored is None else _info(stored)


async def delete(context: GuestContext, binding: str, keys: Sequence[str]) -> None:
    bucket = context.scope.r2(binding)
    async with _operation("delete"):
        if len(keys) > DELETE_KEYS_MAX:
            raise Failure("TypeError", f"At most {DELETE_KEYS_MAX} keys can be deleted at once.")
        for key in keys:
            _check_key(key)
        await bucket.delete(keys)


async def list_objects(context: GuestContext, binding: str, options: str) -> str:
    bucket = context.scope.r2(binding)
    given = parse_options(options)
    include = read.included(given)
    async with _operation("list"):
        page = await bucket.list(
            prefix=read.text_option(given, "prefix") or "",
            delimiter=read.text_option(given, "delimiter") or "",
            start_after=read.text_option(given, "startAfter"),
            cursor=read.text_option(given, "cursor"),
            limit=read.list_limit(given, include),
            include=include,
        )
    result: dict[str, object] = {
        "objects": [_members(each) for each in page.objects],
        "truncated": page.cursor is not None,
    }
    if page.cursor is not None:
        result["cursor"] = page.cursor
    result["delimitedPrefixes"] = page.prefixes
    return msgspec.json.encode(result).decode()


async def create_multipart_upload(context: GuestContext, binding: str, key: str, options: str) -> str:
    bucket = context.scope.r2(binding)
    given = parse_options(options)
    async with _operation("createMultipartUpload"):
        attributes = read.attributes(given, "MultipartOptions")
        read.refuse_key(given)
        _check_key(key)
        read.check_metadata_size(attributes)
        return await bucket.create_upload(key, attributes)


async def upload_part(
    context: GuestContext, binding: str, key: str, upload_id: str, part_number: int, value: Payload
) -> str:
    async with _operation("uploadPart"), _closing(value):
        bucket = context.scope.r2(binding)
        _check_part_number(part_number)
        _check_key(key)
        etag = await bucket.upload_part(key, upload_id, part_number, value, size_max=OBJECT_BYTES_MAX)
    return msgspec.json.encode({"partNumber": part_number, "etag": etag}).decode()


async def complete_multipart_upload(context: GuestContext, binding: str, key: str, upload_id: str, parts: str) -> str:
    bucket = context.scope.r2(binding)
    named = _named_parts(parts)
    async with _operation("completeMultipartUpload"):
        _check_key(key)
        return _info(await bucket.complete_upload(key, upload_id, named))


async def abort_multipart_upload(context: GuestContext, binding: str, key: str, upload_id: str) -> None:
    bucket = context.scope.r2(binding)
    async with _operation("abortMultipartUpload"):
        _check_key(key)
        await bucket.abort_upload(key, upload_id)


@asynccontextmanager
async def _operation(name: str) -> AsyncIterator[None]:
    """Gives R2's errors the form that clients know: operation, message and number."""
    try:
        yield
    except R2Error as error:
        raise Failure("Error", f"{name}: {error.message} ({error.code})") from None
    except StorageFailure as failure:
        raise Failure("Error", f"{name}: {failure.message} (10001)") from None


@asynccontextmanager
async def _closing(value: Payload) -> AsyncIterator[None]:
    """The guest has given a stream away; nobody else will close it."""
    try:
        yield
    finally:
        if isinstance(value, Body):
            value.close()


def _check_key(key: str) -> None:
    if len(key) * 4 > KEY_BYTES_MAX and len(key.encode()) > KEY_BYTES_MAX:
        raise invalid_object_name()


def _check_part_number(number: int) -> None:
    if not 1 <= number <= PART_NUMBER_MAX:
        raise Failure(
            "TypeError",
            f"Part number must be between 1 and {PART_NUMBER_MAX} (inclusive). Actual value was: {number}",
        )


def _named_parts(text: str) -> list[NamedPart]:
    given = parse_json(text, "parts")
    if not isinstance(given, list):
        raise Failure(
            "TypeError", "Failed to execute 'complete' on 'R2MultipartUpload': parameter 1 is not of type 'Array'."
        )
    if len(given) > PART_NUMBER_MAX:
        raise Failure("TypeError", f"An upload has at most {PART_NUMBER_MAX} parts.")
    named = []
    for index, part in enumerate(given):
        if not isinstance(part, dict):
            raise Failure(
                "TypeError",
                f"Incorrect type for array element {index}: the provided value is not of type 'UploadedPart'.",
            )
        number = to_int32(part.get("partNumber"))
        _check_part_number(number)
        named.append(NamedPart(number, to_text(part.get("etag"))))
    return named


def _info(found: StoredObject, byte_range: tuple[int, int] | None = None) -> str:
    members = _members(found)
    if byte_range is not None:
        members["range"] = {"offset": byte_range[0], "length": byte_range[1]}
    return msgspec.json.encode(members).decode()


def _members(found: StoredObject) -> dict[str, Any]:
    return {
        "key": found.key,
        "version": found.version,
        "size": found.size,
        "etag": found.etag,
        "httpEtag": f'"{found.etag}"',
        "uploaded": found.uploaded_ms,
        "httpMetadata": msgspec.Raw(found.http_metadata_json.encode()),
        "customMetadata": msgspec.Raw(found.custom_metadata_json.encode()),
        "checksums": msgspec.Raw(found.checksums_json.encode()),
        "storageClass": found.storage_class,
    }


_KEY = (String, String)
_TEXT = ResultOf(String, FAILURE)
_OPTIONAL_TEXT = ResultOf(OptionOf(String), FAILURE)
_NOTHING = ResultOf(None, FAILURE)

INTERFACE = Interface(
    "cloister:worker/r2@0.1.0",
    functions=(
        HostFunction("head", _KEY, _OPTIONAL_TEXT, head, may_wait=True, prompt=True),
        HostFunction("get", (*_KEY, String), ResultOf(OptionOf(OBJECT), FAILURE), get, may_wait=True, prompt=True),
        HostFunction("put", (*_KEY, PAYLOAD, String), _OPTIONAL_TEXT, put, may_wait=True),
        HostFunction("delete", (String, ListOf(String)), _NOTHING, delete, may_wait=True, prompt=True),
        HostFunction("list", (String, String), _TEXT, list_objects, may_wait=True, prompt=True),
        HostFunction("create-multipart-upload", (*_KEY, String), _TEXT, create_multipart_upload, may_wait=True),
        HostFunction("upload-part", (*_KEY, String, S32, PAYLOAD), _TEXT, upload_part, may_wait=True),
        HostFunction(
            "complete-multipart-upload", (*_KEY, String, String), _TEXT, complete_multipart_upload, may_wait=True
        ),
        HostFunction("abort-multipart-upload", (*_KEY, String), _NOTHING, abort_multipart_upload, may_wait=True),
    ),
    resources=(BODY,),
)
