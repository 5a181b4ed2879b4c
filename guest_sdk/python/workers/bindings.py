"""`self.env`: what is bound to the worker, by name. Storage bindings call the host; the others are plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from email.utils import format_datetime
from typing import Any

from workers import host
from workers.content import BodyMixin, Raw, ReadableStream, read_bytes, read_text
from workers.d1 import D1Database
from workers.headers import Headers
from workers.http import content_of
from workers.values import JsDict, date, javascript_text, load, options_text, well_formed

Err = host.Err


def _key(key: Any) -> str:
    return well_formed(javascript_text(key))


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
        entry = self._entry(_key(key), text)
        return None if entry is None else await _kv_value(host.from_payload(entry.value), wanted)

    async def get_with_metadata(self, key: Any, type: Any = None, **options: Any) -> Any:
        """{value, metadata, cacheStatus}; value and metadata are None if there is no such key."""
        wanted, text = _kv_options(type, options)
        if isinstance(key, list | tuple):
            return await self._get_many(key, wanted, text, with_metadata=True)
        entry = self._entry(_key(key), text)
        if entry is None:
            return JsDict(value=None, metadata=None, cacheStatus=None)
        value = await _kv_value(host.from_payload(entry.value), wanted)
        metadata = None if entry.metadata is None else load(entry.metadata)
        return JsDict(value=value, metadata=metadata, cacheStatus=None)

    getWithMetadata = get_with_metadata

    async def put(self, key: Any, value: Any, options: Any = None, **more: Any) -> None:
        """Stores text, bytes or a stream; numbers, booleans and None are stored as JavaScript writes them."""
        payload = await host.to_payload(_kv_content(value))
        try:
            host.kv.put(self._name, _key(key), payload, options_text(options, more))
        except Err as error:
            host.fail(error)

    async def delete(self, key: Any) -> None:
        try:
            host.kv.delete(self._name, _key(key))
        except Err as error:
            host.fail(error)

    async def list(self, options: Any = None, **more: Any) -> KvKeys:
        """{keys: [{name, expiration?, metadata?}], list_complete, cursor?}."""
        try:
            return KvKeys(load(host.kv.list(self._name, options_text(options, more))))
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
            return load(host.kv.get_many(self._name, [_key(key) for key in keys], json.dumps(options)))
        except Err as error:
            host.fail(error)


def _kv_options(type: Any, options: dict[str, Any]) -> tuple[str, str]:
    given = dict(type) if isinstance(type, Mapping) else {} if type is None else {"type": str(type)}
    given.update(options)
    wanted = str(given.pop("type", None) or "text")
    if wanted in ("text", "json", "arrayBuffer", "stream", "bytes"):
        return wanted, options_text(given, {})
    return wanted, options_text({**given, "type": wanted}, {})


async def _kv_value(raw: Raw, type: str) -> Any:
    if type == "text":
        return await read_text(raw)
    if type == "json":
        return load(await read_text(raw))
    if type == "bytes":
        return await read_bytes(raw)
    if type == "stream":
        return ReadableStream(raw if raw is not None else b"")
    return memoryview(await read_bytes(raw))


def _kv_content(value: Any) -> Raw:
    if isinstance(value, str | bytes):
        return value
    if value is None or isinstance(value, int | float):
        return javascript_text(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, ReadableStream):
        return value.take()
    raise TypeError("KV put() accepts only strings, ArrayBuffers, ArrayBufferViews, and ReadableStreams as values.")


class R2Object:
    """An object's metadata. Fields in Cloudflare's spelling and in Python's: `httpEtag`, `http_etag`."""

    def __init__(self, info: JsDict) -> None:
        self._info = info
        self.uploaded = date(info["uploaded"])
        self.checksums = JsDict((name, bytes.fromhex(value)) for name, value in info["checksums"].items())
        expiry = info["httpMetadata"].get("cacheExpiry")
        if expiry is not None:
            info["httpMetadata"]["cacheExpiry"] = date(expiry)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._info, name)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def write_http_metadata(self, headers: Headers) -> None:
        """Sets the headers that the object's httpMetadata has."""
        names = ("contentType", "contentLanguage", "contentDisposition", "contentEncoding", "cacheControl")
        for name in names:
            value = self._info["httpMetadata"].get(name)
            if value is not None:
                headers.set("".join(f"-{c.lower()}" if c.isupper() else c for c in name), value)
        expiry = self._info["httpMetadata"].get("cacheExpiry")
        if expiry is not None:
            headers.set("expires", format_datetime(expiry, usegmt=True))

    writeHttpMetadata = write_http_metadata

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._info['key']!r}>"


class R2ObjectBody(BodyMixin, R2Object):
    """An object with its bytes, which are read once."""

    def __init__(self, info: JsDict, raw: Raw) -> None:
        super().__init__(info)
        self._raw = raw

    def _take(self) -> Raw:
        try:
            return super()._take()
        except OSError:
            raise TypeError(
                "Body has already been used. It can only be used once. Use tee() first if you need to read it twice."
            ) from None

    def _content_type(self) -> str:
        return str(self._info["httpMetadata"].get("contentType") or "")


class R2Objects(JsDict):
    """A page of a bucket's listing."""


class R2Bucket:
    """An R2 bucket: https://developers.cloudflare.com/r2/api/workers/ with Python's calling conventions."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def head(self, key: Any) -> R2Object | None:
        try:
            info = host.r2.head(self._name, _key(key))
        except Err as error:
            host.fail(error)
        return None if info is None else R2Object(load(info))

    async def get(self, key: Any, options: Any = None, **more: Any) -> Any:
        """The object with its body; without one if a condition of `onlyIf` did not hold; None if there is none."""
        try:
            found = host.r2.get(self._name, _key(key), options_text(options, more))
        except Err as error:
            host.fail(error)
        if found is None:
            return None
        info = load(found.info)
        return R2Object(info) if found.body is None else R2ObjectBody(info, host.HostStream(found.body))

    async def put(self, key: Any, value: Any = None, options: Any = None, **more: Any) -> R2Object | None:
        """Stores an object; None if a condition of `onlyIf` did not hold."""
        payload = await host.to_payload(_r2_content(value))
        try:
            info = host.r2.put(self._name, _key(key), payload, options_text(options, more))
        except Err as error:
            host.fail(error)
        return None if info is None else R2Object(load(info))

    async def delete(self, keys: Any) -> None:
        """Deletes one object or a list of them."""
        wanted = [_key(key) for key in keys] if isinstance(keys, list | tuple) else [_key(keys)]
        try:
            host.r2.delete(self._name, wanted)
        except Err as error:
            host.fail(error)

    async def list(self, options: Any = None, **more: Any) -> R2Objects:
        """{objects, truncated, cursor?, delimitedPrefixes}."""
        try:
            page = R2Objects(load(host.r2.list(self._name, options_text(options, more))))
        except Err as error:
            host.fail(error)
        page["objects"] = [R2Object(info) for info in page["objects"]]
        return page

    async def create_multipart_upload(self, key: Any, options: Any = None, **more: Any) -> R2MultipartUpload:
        try:
            upload_id = host.r2.create_multipart_upload(self._name, _key(key), options_text(options, more))
        except Err as error:
            host.fail(error)
        return R2MultipartUpload(self._name, _key(key), upload_id)

    createMultipartUpload = create_multipart_upload

    def resume_multipart_upload(self, key: Any, upload_id: str) -> R2MultipartUpload:
        """The upload of that id; that it exists shows when it is used."""
        return R2MultipartUpload(self._name, _key(key), upload_id)

    resumeMultipartUpload = resume_multipart_upload


class R2MultipartUpload:
    """An object in parts that is not there until `complete`."""

    def __init__(self, name: str, key: str, upload_id: str) -> None:
        self._name = name
        self.key = key
        self.upload_id = self.uploadId = upload_id

    async def upload_part(self, part_number: int, value: Any, _options: Any = None) -> JsDict:
        payload = await host.to_payload(_r2_content(value))
        try:
            return load(  # type: ignore[no-any-return]
                host.r2.upload_part(self._name, self.key, self.upload_id, int(part_number), payload)
            )
        except Err as error:
            host.fail(error)

    uploadPart = upload_part

    async def complete(self, parts: Sequence[Any]) -> R2Object:
        listed = [{"partNumber": part["partNumber"], "etag": part["etag"]} for part in parts]
        try:
            info = host.r2.complete_multipart_upload(self._name, self.key, self.upload_id, json.dumps(listed))
        except Err as error:
            host.fail(error)
        return R2Object(load(info))

    async def abort(self) -> None:
        try:
            host.r2.abort_multipart_upload(self._name, self.key, self.upload_id)
        except Err as error:
            host.fail(error)


def _r2_content(value: Any) -> Raw:
    if value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, int | float | Mapping):
        raise TypeError("R2 put() accepts only strings, bytes, blobs and streams as values.")
    return content_of(value)[0]


_STORAGE = {"kv_namespace": KvNamespace, "r2_bucket": R2Bucket}


def environment() -> dict[str, Any]:
    """What is bound, by name. Asks the host."""
    return {name: _bound(name, binding) for name, binding in load(host.environment.bindings()).items()}


def _bound(name: str, binding: Mapping[str, Any]) -> Any:
    if binding["type"] == "d1":
        return D1Database(name, bool(binding.get("js_types")))
    storage = _STORAGE.get(binding["type"])
    if storage is not None:
        return storage(name)
    return binding["json"] if binding["type"] == "json" else binding["text"]
