"""What a guest imports as KV: validation in Cloudflare's order, with its limits and its error texts."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Sequence
from typing import Any, NoReturn, TypeVar

import msgspec

from host_bindings.body import CHUNK_BYTES, Body, BytesBody, Payload
from host_bindings.context import GuestContext
from host_bindings.contract import (
    FAILURE,
    Failure,
    HostFunction,
    Interface,
    ListOf,
    OptionOf,
    Record,
    ResultOf,
    String,
)
from host_bindings.kv.bulk import NotJson, bulk_value
from host_bindings.kv.store import Entry, KVNamespace, TooMuch
from host_bindings.options import parse_options, to_int32, to_text, without_surrogates
from host_bindings.payload import PAYLOAD
from host_bindings.storage.failures import StorageFailure

T = TypeVar("T")

KEY_BYTES_MAX = 512
VALUE_BYTES_MAX = 25 * 1024 * 1024
METADATA_BYTES_MAX = 1024
LIST_KEYS_MAX = 1000
BULK_KEYS_MAX = 100
BULK_BYTES_MAX = 25 * 1024 * 1024
TTL_SECONDS_MIN = 60
CACHE_TTL_SECONDS_MIN = 30

TEXT_BYTES_MAX = 1024 * 1024
"""Longer values go to the guest as a body."""
BYTES_BYTES_MAX = 2 * 1024
"""Longer values that are not UTF-8 go to the guest as a body: bytes are dear on the way into a guest."""

_TYPES = ("text", "json", "arrayBuffer", "stream")

ENTRY = Record((("value", PAYLOAD), ("metadata", OptionOf(String))))
"""WIT's `kv.entry`. In Python: (value, metadata)."""


async def get(context: GuestContext, binding: str, key: str, options: str) -> tuple[Payload, str | None] | None:
    namespace = context.scope.kv(binding)
    given = parse_options(options)
    # Arguments are converted before anything is looked at.
    cache_ttl = _int32(given, "cacheTtl")
    _check_key("GET", key)
    _check_cache_ttl("GET", cache_ttl)
    entry = await _stored("GET", namespace.get(key))
    if entry is None:
        return None
    # Only now: asking for a missing key with a wrong type is no error.
    if to_text(given.get("type", "text")) not in _TYPES:
        raise Failure(
            "TypeError",
            'Unknown response type. Possible types are "text", "arrayBuffer", "json", and "stream".',
        )
    return _payload(entry.value), entry.metadata


async def get_many(context: GuestContext, binding: str, keys: Sequence[str], options: str) -> str:
    namespace = context.scope.kv(binding)
    given = parse_options(options)
    kind = to_text(given.get("type", "text")) or "text"
    cache_ttl = _int32(given, "cacheTtl")
    if kind not in ("text", "json"):
        _refuse("GET_BULK", 400, f'"{without_surrogates(kind[:64])}" is not a valid type. Use "json" or "text"')
    if len(keys) > BULK_KEYS_MAX:
        _refuse("GET_BULK", 400, f"You can request a maximum of {BULK_KEYS_MAX} keys")
    if not keys:
        _refuse("GET_BULK", 400, "You must request a minimum of 1 key")
    # As in Cloudflare's simulator the keys are checked one after the other, each before its value is looked at.
    wanted, refusal = _valid_keys(keys, cache_ttl)
    try:
        entries = await _stored("GET_BULK", namespace.get_many(wanted, bytes_max=BULK_BYTES_MAX))
    except TooMuch:
        raise _bulk_too_large() from None
    with_metadata = bool(given.get("withMetadata"))
    if sum(len(entry.value) for entry in entries.values() if entry is not None) <= CHUNK_BYTES:
        return await _bulk_text(entries, kind, with_metadata, refusal)
    async with context.scope.large_values:
        return await _bulk_text(entries, kind, with_metadata, refusal)


async def _bulk_text(entries: dict[str, Entry | None], kind: str, with_metadata: bool, refusal: Failure | None) -> str:
    """The answer of `get_many`. Raises `refusal` if the values before it are no reason for another one."""
    if kind == "text" and sum(map(_escapes_bytes, entries.values())) > BULK_BYTES_MAX:
        raise _bulk_too_large()
    found: dict[str, object] = {}
    for name, entry in entries.items():
        found[name] = None if entry is None else await _bulk_value(entry, kind, with_metadata)
        if entry is not None and len(entry.value) > CHUNK_BYTES:
            await asyncio.sleep(0)  # others have their turn
    if refusal is not None:
        raise refusal
    return msgspec.json.encode(found).decode()


def _valid_keys(keys: Sequence[str], cache_ttl: int | None) -> tuple[Sequence[str], Failure | None]:
    """The keys before the first that is refused, and why it is."""
    for index, key in enumerate(keys):
        try:
            _check_bulk_key(key)
            _check_cache_ttl("GET_BULK", cache_ttl)
        except Failure as refusal:
            return keys[:index], refusal
    return keys, None


async def put(context: GuestContext, binding: str, key: str, value: Payload, options: str) -> None:
    try:
        namespace = context.scope.kv(binding)
        given = parse_options(options)
        time, ttl = _int32(given, "expiration"), _int32(given, "expirationTtl")
        _check_key("PUT", key)
        expiration = _expiration(time, ttl, namespace)
        metadata = _metadata(given)
        if isinstance(value, Body):
            # To read it may ask for the current task. After a wait there is one: see `HostFunction.prompt`.
            await asyncio.sleep(0)
        content = await _content(value)
    finally:
        # The guest has given the body away; nobody else will close it.
        if isinstance(value, Body):
            value.close()
    await _stored("PUT", namespace.put(key, content, metadata=metadata, expiration=expiration))


async def delete(context: GuestContext, binding: str, key: str) -> None:
    namespace = context.scope.kv(binding)
    _check_key("DELETE", key)
    await _stored("DELETE", namespace.delete(key))


async def list_keys(context: GuestContext, binding: str, options: str) -> str:
    namespace = context.scope.kv(binding)
    given = parse_options(options)
    limit = to_int32(given.get("limit", 0))
    if limit > LIST_KEYS_MAX:
        _refuse(
            "GET",
            400,
            f"Invalid key_count_limit of {limit}. Please specify an integer less than {LIST_KEYS_MAX}.",
        )
    prefix = without_surrogates(to_text(given.get("prefix", "")))
    _check_length("GET", prefix)
    cursor = to_text(given.get("cursor", ""))
    page = await _stored(
        "GET", namespace.list(prefix, limit=limit if limit > 0 else LIST_KEYS_MAX, cursor=cursor or None)
    )
    keys = []
    for name, expiration, metadata in page.keys:
        listed: dict[str, object] = {"name": name}
        if expiration is not None:
            listed["expiration"] = expiration
        if metadata is not None:
            listed["metadata"] = msgspec.Raw(metadata.encode())
        keys.append(listed)
    result: dict[str, object] = {"keys": keys, "list_complete": page.cursor is None}
    if page.cursor is not None:
        result["cursor"] = page.cursor
    result["cacheStatus"] = None
    return msgspec.json.encode(result).decode()


def _refuse(verb: str, status: int, message: str) -> NoReturn:
    raise Failure("Error", f"KV {verb} failed: {status} {message}")


async def _stored(verb: str, operation: Awaitable[T]) -> T:
    try:
        return await operation
    except StorageFailure as failure:
        _refuse(verb, failure.status, failure.message)


def _check_key(verb: str, key: str) -> None:
    if not key:
        raise Failure("TypeError", "Key name cannot be empty.")
    if key in (".", ".."):
        raise Failure("TypeError", f'"{key}" is not allowed as a key name.')
    _check_length(verb, key)


def _check_bulk_key(key: str) -> None:
    if not key:
        _refuse("GET_BULK", 400, "Key names must not be empty")
    if key in (".", ".."):
        _refuse("GET_BULK", 400, f'Illegal key name "{key}". Please use a different name.')
    _check_length("GET_BULK", key)


def _check_length(verb: str, key: str) -> None:
    if len(key) * 4 > KEY_BYTES_MAX and (size := len(key.encode())) > KEY_BYTES_MAX:
        _refuse(verb, 414, f"UTF-8 encoded length of {size} exceeds key length limit of {KEY_BYTES_MAX}.")


def _check_cache_ttl(verb: str, seconds: int | None) -> None:
    if seconds is not None and seconds < CACHE_TTL_SECONDS_MIN:
        _refuse(verb, 400, f"Invalid cache_ttl of {seconds}. Cache TTL must be at least {CACHE_TTL_SECONDS_MIN}.")


def _int32(given: dict[str, Any], name: str) -> int | None:
    return to_int32(given[name]) if name in given else None


def _expiration(time: int | None, ttl: int | None, namespace: KVNamespace) -> int | None:
    """The absolute time in seconds. A TTL wins over a time."""
    if ttl is not None:
        if ttl <= 0:
            _refuse("PUT", 400, f"Invalid expiration_ttl of {ttl}. Please specify integer greater than 0.")
        if ttl < TTL_SECONDS_MIN:
            _refuse("PUT", 400, f"Invalid expiration_ttl of {ttl}. Expiration TTL must be at least {TTL_SECONDS_MIN}.")
        return namespace.now() + ttl
    if time is None:
        return None
    now = namespace.now()
    if time <= now:
        _refuse(
            "PUT",
            400,
            f"Invalid expiration of {time}. Please specify integer greater than the current number of seconds since "
            "the UNIX epoch.",
        )
    if time < now + TTL_SECONDS_MIN:
        _refuse(
            "PUT",
            400,
            f"Invalid expiration of {time}. Expiration times must be at least {TTL_SECONDS_MIN} seconds in the future.",
        )
    return time


def _metadata(given: dict[str, Any]) -> str | None:
    """The metadata as JSON text, as JSON.stringify writes it. Null counts as none."""
    if "metadata" not in given:
        return None
    try:
        text = json.dumps(_finite(given["metadata"]), ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise Failure("TypeError", "The metadata cannot be written as JSON.") from None
    text = _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    size = len(text.encode())
    if size > METADATA_BYTES_MAX:
        _refuse("PUT", 413, f"Metadata length of {size} exceeds limit of {METADATA_BYTES_MAX}.")
    return text


_SURROGATE = re.compile("[\ud800-\udfff]")


def _finite(value: Any) -> Any:
    """The value with null for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(element) for element in value]
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}
    return value


async def _content(value: Payload) -> bytes:
    """The bytes to store, no more than allowed."""
    if value is None:
        return b""
    if not isinstance(value, Body):
        content = value.encode() if isinstance(value, str) else value
        _check_value_size(len(content))
        return content
    if value.length is not None:
        _check_value_size(value.length)
    pieces: list[bytes] = []
    size = 0
    while piece := await value.read(CHUNK_BYTES):
        size += len(piece)
        _check_value_size(size)
        pieces.append(piece)
    return b"".join(pieces)


def _check_value_size(size: int) -> None:
    if size > VALUE_BYTES_MAX:
        _refuse("PUT", 413, f"Value length of {size} exceeds limit of {VALUE_BYTES_MAX}.")


def _payload(value: bytes) -> Payload:
    """The value in the form that is cheapest for the guest."""
    if len(value) <= TEXT_BYTES_MAX:
        try:
            return value.decode()
        except UnicodeDecodeError:
            if len(value) <= BYTES_BYTES_MAX:
                return value
    return BytesBody(value)


_ESCAPED = bytes(set(range(32)) - set(b"\b\t\n\f\r"))
"""Characters of which JSON makes six."""


def _escapes_bytes(entry: Entry | None) -> int:
    """What escapes add to a text that becomes JSON, besides those that only double a character."""
    return 0 if entry is None else 5 * (len(entry.value) - len(entry.value.translate(None, _ESCAPED)))


def _bulk_too_large() -> Failure:
    return Failure("Error", "KV GET_BULK failed: 413 Total size of request exceeds the limit of 25MB")


async def _bulk_value(entry: Entry, kind: str, with_metadata: bool) -> object:
    try:
        return await bulk_value(entry, is_json=kind == "json", with_metadata=with_metadata, bytes_max=BULK_BYTES_MAX)
    except TooMuch:
        raise _bulk_too_large() from None
    except NotJson as error:
        _refuse("GET_BULK", 400, str(error))


INTERFACE = Interface(
    "cloister:worker/kv@0.1.0",
    functions=(
        HostFunction(
            "get", (String, String, String), ResultOf(OptionOf(ENTRY), FAILURE), get, may_wait=True, prompt=True
        ),
        HostFunction("get-many", (String, ListOf(String), String), ResultOf(String, FAILURE), get_many, may_wait=True),
        HostFunction(
            "put", (String, String, PAYLOAD, String), ResultOf(None, FAILURE), put, may_wait=True, prompt=True
        ),
        HostFunction("delete", (String, String), ResultOf(None, FAILURE), delete, may_wait=True, prompt=True),
        HostFunction("list", (String, String), ResultOf(String, FAILURE), list_keys, may_wait=True, prompt=True),
    ),
)
