"""The keys of a KV namespace: list, read, write, delete, one by one and many at once."""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64decode
from collections.abc import Awaitable, Iterable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from aiohttp import web

from host_bindings.contract import Failure
from host_bindings.kv.binding import BULK_BYTES_MAX, BULK_KEYS_MAX, KEY_BYTES_MAX, METADATA_BYTES_MAX, VALUE_BYTES_MAX
from host_bindings.kv.bulk import NotJson, bulk_value
from host_bindings.kv.store import Entry, KVNamespace, TooMuch
from runtime.control import resources
from runtime.control.envelope import ANSWER_HEADERS, Code, ControlError
from runtime.control.forms import is_form, read_form
from runtime.control.kv_namespaces import NAMESPACE
from runtime.control.metadata import parse_json
from runtime.control.refusals import failed
from runtime.control.routes import Call, JsonBody, NoQuery, RawAnswer, RawBody, Result, Route, read_body, read_items

BULK_WRITES_MAX = 10_000
BULK_BODY_BYTES_MAX = 100 * 1024 * 1024
BULK_BODY_S_MAX = 120.0
"""How long a bulk write may take to arrive: its values are held until then, and few may be so at once."""
TTL_SECONDS_MIN = 60
LIST_KEYS_MAX = 1000

_WRITES_AT_ONCE = 256
_FORM_BYTES = 64 * 1024
_BASE64_CHARACTERS = 256 * 1024
"""How much is decoded at once; of each four characters three bytes are made."""

T = TypeVar("T")


class KeysQuery(msgspec.Struct, frozen=True):
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIST_KEYS_MAX)] = LIST_KEYS_MAX
    prefix: str = ""
    cursor: str = ""


class KeyResult(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    expiration: int | None = None
    metadata: Any = None


class KeysInfo(msgspec.Struct, frozen=True):
    count: int
    cursor: str


class ExpirationQuery(msgspec.Struct, frozen=True):
    """In seconds: since 1970, or from now. The second wins."""

    expiration: int | None = None
    expiration_ttl: int | None = None


class BulkEntry(msgspec.Struct, frozen=True):
    key: str
    value: str
    base64: bool = False
    expiration: int | None = None
    expiration_ttl: int | None = None
    metadata: Any = None


class BulkKeys(msgspec.Struct, frozen=True):
    keys: list[str]
    type: Literal["text", "json"] = "text"
    withMetadata: bool = False


class BulkResult(msgspec.Struct, frozen=True):
    successful_key_count: int
    unsuccessful_keys: list[str]


class BulkValues(msgspec.Struct, frozen=True):
    values: dict[str, Any]


# One key


async def list_keys(call: Call[KeysQuery, None]) -> Result:
    store = await _store(call)
    query = call.query
    page = await _stored(store.list(query.prefix, limit=query.limit, cursor=query.cursor or None))
    keys = [
        KeyResult(name, expiration, None if metadata is None else msgspec.Raw(metadata.encode()))
        for name, expiration, metadata in page.keys
    ]
    return Result(keys, KeysInfo(len(keys), page.cursor or ""))


async def get_value(call: Call[NoQuery, None]) -> web.StreamResponse:
    entry = await _entry(call)
    headers = dict(ANSWER_HEADERS)
    if entry.expiration is not None:
        headers["expiration"] = str(entry.expiration)
    return web.Response(body=entry.value, content_type="application/octet-stream", headers=headers)


async def get_metadata(call: Call[NoQuery, None]) -> Result:
    entry = await _entry(call)
    return Result(None if entry.metadata is None else msgspec.Raw(entry.metadata.encode()))


async def put_value(call: Call[ExpirationQuery, None]) -> Result:
    store = await _store(call)
    key = _key(call.path["key"])
    value, metadata = await _content(call)
    expiration = _expiration(call.query.expiration, call.query.expiration_ttl, store)
    _check_sizes(value, metadata)
    await _stored(store.put(key, value, metadata=metadata, expiration=expiration))
    return Result(None)


async def delete_value(call: Call[NoQuery, None]) -> Result:
    store = await _store(call)
    await _stored(store.delete(_key(call.path["key"])))
    return Result(None)


# Many keys


async def put_many(call: Call[NoQuery, None]) -> Result:
    """All are checked before the first is written."""
    store = await _store(call)
    async with call.parts.bulk_writes:
        try:
            async with asyncio.timeout(BULK_BODY_S_MAX):
                entries = read_items(call, _ENTRIES, BulkEntry, BULK_WRITES_MAX)
                writes = [await _bulk_write(entry, store) async for entry in entries]
        except TimeoutError:
            raise ControlError(408, Code.KV_INVALID, "The body did not arrive in time.") from None
        await _in_groups(
            store.put(key, value, metadata=metadata, expiration=expiration)
            for key, value, metadata, expiration in writes
        )
    return Result(BulkResult(len(writes), []))


async def delete_many(call: Call[NoQuery, None]) -> Result:
    store = await _store(call)
    keys = [_key(key) async for key in read_items(call, _NAMES, str, BULK_WRITES_MAX)]
    await _in_groups(store.delete(key) for key in keys)
    return Result(BulkResult(len(keys), []))


async def get_many(call: Call[NoQuery, BulkKeys]) -> Result:
    store = await _store(call)
    body = call.body
    if not 1 <= len(body.keys) <= BULK_KEYS_MAX:
        raise _invalid(f"There are {len(body.keys)} keys; 1 to {BULK_KEYS_MAX} can be read at once.")
    keys = [_key(key) for key in body.keys]
    wanted = partial(bulk_value, is_json=body.type == "json", with_metadata=body.withMetadata, bytes_max=BULK_BYTES_MAX)
    try:
        entries = await _stored(store.get_many(keys, bytes_max=BULK_BYTES_MAX))
        values = {key: None if entry is None else await wanted(entry) for key, entry in entries.items()}
    except TooMuch:
        raise ControlError(413, Code.KV_TOO_LARGE, "The values are larger than 25 MB together.") from None
    except NotJson as error:
        raise _invalid(str(error)) from None
    return Result(BulkValues(values))


async def _in_groups(writes: Iterable[Awaitable[None]]) -> None:
    """Writes that wait at the same time share a commit."""
    group: list[Awaitable[None]] = []
    for write in writes:
        group.append(write)
        if len(group) == _WRITES_AT_ONCE:
            await _stored(asyncio.gather(*group))
            group = []
    if group:
        await _stored(asyncio.gather(*group))


async def _bulk_write(entry: BulkEntry, store: KVNamespace) -> tuple[str, bytes, str | None, int | None]:
    try:
        value = await _from_base64(entry.value) if entry.base64 else entry.value.encode()
    except (binascii.Error, ValueError):
        raise _invalid(f"The value of {entry.key[:80]!a} is not base64.") from None
    metadata = None if entry.metadata is None else msgspec.json.encode(entry.metadata).decode()
    _check_sizes(value, metadata)
    return _key(entry.key), value, metadata, _expiration(entry.expiration, entry.expiration_ttl, store)


async def _from_base64(text: str) -> bytes:
    """Lets others have their turn: 25 MB at once would take a tenth of a second. Raises ValueError."""
    if len(text) <= _BASE64_CHARACTERS:
        return b64decode(text, validate=True)
    if "=" in text[:-2]:
        raise ValueError("what is filled up has more behind it")
    decoded = bytearray()
    for start in range(0, len(text), _BASE64_CHARACTERS):
        decoded += b64decode(text[start : start + _BASE64_CHARACTERS], validate=True)
        await asyncio.sleep(0)
    return bytes(decoded)


# What there is, and what may be


async def _store(call: Call[Any, Any]) -> KVNamespace:
    record = await resources.find(call, "kv_namespace", call.path["kv_namespace"])
    return call.parts.resources.kv(record.owner, record.resource_id)


async def _entry(call: Call[Any, Any]) -> Entry:
    store = await _store(call)
    entry = await _stored(store.get(_key(call.path["key"])))
    if entry is None:
        raise ControlError(404, Code.KV_KEY_NOT_FOUND, "get: 'key not found'")
    return entry


async def _stored(operation: Awaitable[T]) -> T:
    try:
        return await operation
    except Failure as failure:
        raise failed(failure, Code.INTERNAL) from None


async def _content(call: Call[Any, Any]) -> tuple[bytes, str | None]:
    """Value and metadata: the body as it is, or a form with a part for each."""
    content_type = call.request.headers.get("Content-Type", "")
    body = await read_body(call.request, VALUE_BYTES_MAX + _FORM_BYTES)
    if is_form(content_type):
        fields = {field.name: field.content for field in read_form(body, content_type)}
        if "value" not in fields:
            raise _invalid("The form has no part `value`.")
        return fields["value"], _metadata(fields.get("metadata"))
    if content_type == "application/json" and "X-Stainless-Package-Version" in call.request.headers:
        # The official Python client 4 sends a value this way; any other JSON is a value as it stands.
        document = parse_json(body, "The body")
        if isinstance(document, dict) and isinstance(document.get("value"), str):
            metadata = document.get("metadata")
            text = metadata if isinstance(metadata, str) else msgspec.json.encode(metadata).decode()
            return document["value"].encode(), _metadata(text.encode()) if metadata is not None else None
    return body, None


def _metadata(text: bytes | None) -> str | None:
    if text is None or not text.strip():
        return None
    document = parse_json(text, "metadata")
    return None if document is None else msgspec.json.encode(document).decode()


def _key(key: str) -> str:
    if not key:
        raise _invalid("Key name cannot be empty.")
    if key in (".", ".."):
        raise _invalid(f'"{key}" is not allowed as a key name.')
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise _invalid("A key has half a character in it (a lone surrogate).") from None
    if size > KEY_BYTES_MAX:
        message = f"UTF-8 encoded length of {size} exceeds key length limit of {KEY_BYTES_MAX}."
        raise ControlError(414, Code.KV_INVALID, message)
    return key


def _check_sizes(value: bytes, metadata: str | None) -> None:
    if len(value) > VALUE_BYTES_MAX:
        message = f"Value length of {len(value)} exceeds limit of {VALUE_BYTES_MAX}."
        raise ControlError(413, Code.KV_TOO_LARGE, message)
    if metadata is not None and len(metadata.encode()) > METADATA_BYTES_MAX:
        message = f"Metadata length of {len(metadata.encode())} exceeds limit of {METADATA_BYTES_MAX}."
        raise ControlError(413, Code.KV_TOO_LARGE, message)


def _expiration(expiration: int | None, ttl: int | None, store: KVNamespace) -> int | None:
    now = store.now()
    if ttl is not None:
        if ttl < TTL_SECONDS_MIN:
            raise _invalid(f"Invalid expiration_ttl of {ttl}. Expiration TTL must be at least {TTL_SECONDS_MIN}.")
        expiration = now + ttl
    elif expiration is not None and expiration < now + TTL_SECONDS_MIN:
        raise _invalid(
            f"Invalid expiration of {expiration}. Expiration times must be at least {TTL_SECONDS_MIN} seconds in the "
            "future."
        )
    if expiration is not None and expiration >= 2**53:
        raise _invalid("The expiration is out of range.")
    return expiration


def _invalid(message: str) -> ControlError:
    return ControlError(400, Code.KV_INVALID, message)


_BINARY = RawAnswer(("application/octet-stream",))
_VALUE = RawBody(
    {
        "application/octet-stream": {"type": "string", "format": "binary"},
        "multipart/form-data": {
            "type": "object",
            "required": ["value"],
            "properties": {"value": {"type": "string"}, "metadata": {"type": "string", "description": "JSON"}},
        },
    }
)
# An empty key comes here too, so that the refusal says so.
_VALUES, _METADATA = f"{NAMESPACE}/values/{{key*}}", f"{NAMESPACE}/metadata/{{key*}}"
_BULK = f"{NAMESPACE}/bulk"
_ENTRIES = JsonBody(list[BulkEntry], bytes_max=BULK_BODY_BYTES_MAX, by_items=True)
_NAMES = JsonBody(list[str], bytes_max=16 * 1024 * 1024, by_items=True)
_LARGE = (408, 413, 414)

ROUTES = (
    Route(
        "GET",
        f"{NAMESPACE}/keys",
        list_keys,
        "List keys",
        "data",
        "resource",
        list[KeyResult],
        query=KeysQuery,
        info=KeysInfo,
    ),
    Route("GET", _VALUES, get_value, "Read a value", "data", "resource", _BINARY, statuses=(414,)),
    Route(
        "PUT",
        _VALUES,
        put_value,
        "Write a value",
        "data",
        "resource",
        query=ExpirationQuery,
        body=_VALUE,
        statuses=_LARGE,
    ),
    Route("DELETE", _VALUES, delete_value, "Delete a key", "data", "resource", statuses=(414,)),
    Route("GET", _METADATA, get_metadata, "Read a key's metadata", "data", "resource", Any, statuses=(414,)),
    Route("PUT", _BULK, put_many, "Write many keys", "data", "resource", BulkResult, body=_ENTRIES, statuses=_LARGE),
    Route(
        "DELETE", _BULK, delete_many, "Delete many keys", "data", "resource", BulkResult, body=_NAMES, statuses=_LARGE
    ),
    Route(
        "POST",
        f"{_BULK}/delete",
        delete_many,
        "Delete many keys",
        "data",
        "resource",
        BulkResult,
        body=_NAMES,
        statuses=_LARGE,
    ),
    Route(
        "POST",
        f"{_BULK}/get",
        get_many,
        "Read many values",
        "data",
        "resource",
        BulkValues,
        body=JsonBody(BulkKeys),
        statuses=_LARGE,
    ),
)
