"""KV namespaces as a worker's code sees them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from workers import host
from workers.content import Raw, ReadableStream, read_bytes, read_text
from workers.values import (
    JsDict,
    int32,
    javascript_text,
    key_text,
    load,
    not_of_type,
    options_text,
    parse_json,
    well_formed,
)

Err = host.Err


def _kv_key(verb: str, key: Any) -> str:
    """The key as text. Half a surrogate pair has no UTF-8, and what it would become could be another key."""
    text = javascript_text(key)
    if well_formed(text) is not text:
        raise host.JsException(f"KV {verb} failed: 400 Could not URL-decode key name")
    return text


class KvKeys(JsDict):
    """A page of a namespace's listing. `page.keys` are the keys, as in JavaScript."""

    @property
    def keys(self) -> Any:
        return self["keys"]


class KvNamespace:
    """A KV namespace: https://developers.cloudflare.com/kv/api/ with Python's calling conventions."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def get(self, key: Any, type: Any = None, _ignored: Any = None, **options: Any) -> Any:
        """The value as `type` ("text", "json", "arrayBuffer", "bytes", "stream"), None if there is none.

        A list of keys gives a dict of values.
        """
        wanted, text = _kv_options(type, options)
        if isinstance(key, list | tuple):
            return await self._get_many(key, wanted, text)
        entry = self._entry(_kv_key("GET", key), text)
        return None if entry is None else await _kv_value(host.from_payload(entry.value), wanted)

    async def get_with_metadata(self, key: Any, type: Any = None, **options: Any) -> Any:
        """{value, metadata, cacheStatus}; value and metadata are None if there is no such key."""
        wanted, text = _kv_options(type, options)
        if isinstance(key, list | tuple):
            return await self._get_many(key, wanted, text, with_metadata=True)
        entry = self._entry(_kv_key("GET", key), text)
        if entry is None:
            return JsDict(value=None, metadata=None, cacheStatus=None)
        value = await _kv_value(host.from_payload(entry.value), wanted)
        metadata = None if entry.metadata is None else load(entry.metadata)
        return JsDict(value=value, metadata=metadata, cacheStatus=None)

    getWithMetadata = get_with_metadata

    async def put(self, key: Any, value: Any, options: Any = None, **more: Any) -> None:
        """Stores text, bytes or a stream; numbers, booleans and None are stored as JavaScript writes them."""
        name = _kv_key("PUT", key)
        text = options_text(options, more, not_of_type("put", "KvNamespace", 3, "PutOptions"))
        payload = await host.to_payload(_kv_content(value, name, text))
        try:
            host.kv.put(self._name, name, payload, text)
        except Err as error:
            host.fail(error)

    async def delete(self, key: Any) -> None:
        name = _kv_key("DELETE", key)
        try:
            host.kv.delete(self._name, name)
        except Err as error:
            host.fail(error)

    async def list(self, options: Any = None, **more: Any) -> KvKeys:
        """{keys: [{name, expiration?, metadata?}], list_complete, cursor?}."""
        text = options_text(options, more, not_of_type("list", "KvNamespace", 1, "ListOptions"))
        try:
            return KvKeys(load(host.kv.list(self._name, text)))
        except Err as error:
            host.fail(error)

    def _entry(self, key: str, options: str) -> Any:
        try:
            return host.kv.get(self._name, key, options)
        except Err as error:
            host.fail(error)

    async def _get_many(self, keys: Sequence[Any], type: str, text: str, *, with_metadata: bool = False) -> Any:
        options = {**(json.loads(text) if text else {}), "type": type}
        if with_metadata:
            options["withMetadata"] = True
        try:
            return load(host.kv.get_many(self._name, [key_text(key) for key in keys], json.dumps(options)))
        except Err as error:
            host.fail(error)


def _kv_options(type: Any, options: dict[str, Any]) -> tuple[str, str]:
    given = dict(type) if isinstance(type, Mapping) else {} if type is None else {"type": type}
    given.update(options)
    found = given.pop("type", None)
    wanted = "text" if found is None else javascript_text(found)
    if wanted not in ("text", "json", "arrayBuffer", "stream", "bytes"):
        given["type"] = wanted
    return wanted, options_text(given, {})


async def _kv_value(raw: Raw, type: str) -> Any:
    if type == "text":
        return await read_text(raw)
    if type == "json":
        return parse_json(await read_text(raw))
    if type == "bytes":
        return await read_bytes(raw)
    if type == "stream":
        return ReadableStream(raw if raw is not None else b"")
    return memoryview(await read_bytes(raw))


def _kv_content(value: Any, name: str, options: str) -> Raw:
    if isinstance(value, str | bytes):
        return value
    if value is None or isinstance(value, int | float):
        return javascript_text(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, ReadableStream):
        return value.take()
    _check_others(name, options)
    raise TypeError("KV put() accepts only strings, ArrayBuffers, ArrayBufferViews, and ReadableStreams as values.")


def _check_others(name: str, options: str) -> None:
    """Refuses options and a key as the host would: Cloudflare's runtime looks at a value's type after them."""
    given = json.loads(options or "{}")
    for option in ("expiration", "expirationTtl"):
        int32(given.get(option))
    if not name:
        raise TypeError("Key name cannot be empty.")
    if name in (".", ".."):
        raise TypeError(f'"{name}" is not allowed as a key name.')
    if (size := len(name.encode())) > 512:
        text = f"KV PUT failed: 414 UTF-8 encoded length of {size} exceeds key length limit of 512."
        raise host.JsException(text)
