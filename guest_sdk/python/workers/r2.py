"""R2 buckets as a worker's code sees them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import format_datetime
from functools import cached_property
from typing import Any

from workers import host
from workers.content import BodyMixin, Raw
from workers.headers import Headers
from workers.http import content_of
from workers.values import JsDict, camel, date, int32, key_text, load, not_of_type, options_text, parse_json

Err = host.Err


class R2Checksums(JsDict):
    """The checksums that are known of an object, as bytes: `md5`, `sha1`, `sha256`, `sha384`, `sha512`."""

    def to_json(self) -> dict[str, str]:
        """The same in hex."""
        return {name: value.hex() for name, value in self.items()}

    toJSON = to_json


class R2Object:
    """An object's metadata. Fields in Cloudflare's spelling and in Python's: `httpEtag`, `http_etag`."""

    def __init__(self, info: dict[str, Any]) -> None:
        """`info` as the contract has it. What is in it becomes Python's values when someone looks."""
        self._info = info

    @cached_property
    def uploaded(self) -> datetime:
        return date(self._info["uploaded"])

    @cached_property
    def checksums(self) -> R2Checksums:
        return R2Checksums((name, bytes.fromhex(value)) for name, value in self._info["checksums"].items())

    @cached_property
    def httpMetadata(self) -> JsDict:
        metadata = JsDict(self._info["httpMetadata"])
        expiry = metadata.get("cacheExpiry")
        if expiry is not None:
            metadata["cacheExpiry"] = date(expiry)
        return metadata

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        info = self._info
        found = info.get(name)
        if found is None and "_" in name and (spelt := camel(name)) != name:
            return getattr(self, spelt)
        if type(found) is dict:
            found = info[name] = JsDict(found)
        return found

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def write_http_metadata(self, headers: Headers) -> None:
        """Sets the headers that the object's httpMetadata has."""
        names = ("contentType", "contentLanguage", "contentDisposition", "contentEncoding", "cacheControl")
        for name in names:
            value = self.httpMetadata.get(name)
            if value is not None:
                headers.set("".join(f"-{c.lower()}" if c.isupper() else c for c in name), value)
        expiry = self.httpMetadata.get("cacheExpiry")
        if expiry is not None:
            headers.set("expires", format_datetime(expiry, usegmt=True))

    writeHttpMetadata = write_http_metadata

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._info['key']!r}>"


class R2ObjectBody(BodyMixin, R2Object):
    """An object with its bytes, which are read once."""

    def __init__(self, info: dict[str, Any], raw: Raw) -> None:
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
        return str(self.httpMetadata.get("contentType") or "")

    async def json(self, **_: Any) -> Any:
        return parse_json(await self.text())


class R2Objects(JsDict):
    """A page of a bucket's listing."""


class R2Bucket:
    """An R2 bucket: https://developers.cloudflare.com/r2/api/workers/ with Python's calling conventions."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def head(self, key: Any) -> R2Object | None:
        try:
            info = host.r2.head(self._name, key_text(key))
        except Err as error:
            host.fail(error)
        return None if info is None else R2Object(json.loads(info))

    async def get(self, key: Any, options: Any = None, **more: Any) -> Any:
        """The object with its body; without one if a condition of `onlyIf` did not hold; None if there is none."""
        text = options_text(options, more, not_of_type("get", "R2Bucket", 2, "GetOptions"))
        try:
            found = host.r2.get(self._name, key_text(key), text)
        except Err as error:
            host.fail(error)
        if found is None:
            return None
        info = json.loads(found.info)
        return R2Object(info) if found.body is None else R2ObjectBody(info, host.HostStream(found.body))

    async def put(self, key: Any, value: Any = None, options: Any = None, **more: Any) -> R2Object | None:
        """Stores an object; None if a condition of `onlyIf` did not hold."""
        text = options_text(options, more, not_of_type("put", "R2Bucket", 3, "PutOptions"))
        payload = await host.to_payload(_r2_content(value, not_of_type("put", "R2Bucket", 2, _R2_CONTENT)))
        try:
            info = host.r2.put(self._name, key_text(key), payload, text)
        except Err as error:
            host.fail(error)
        return None if info is None else R2Object(json.loads(info))

    async def delete(self, keys: Any) -> None:
        """Deletes one object or a list of them."""
        wanted = [key_text(key) for key in keys] if isinstance(keys, list | tuple) else [key_text(keys)]
        try:
            host.r2.delete(self._name, wanted)
        except Err as error:
            host.fail(error)

    async def list(self, options: Any = None, **more: Any) -> R2Objects:
        """{objects, truncated, cursor?, delimitedPrefixes}."""
        text = options_text(options, more, not_of_type("list", "R2Bucket", 1, "ListOptions"))
        try:
            page = R2Objects(json.loads(host.r2.list(self._name, text)))
        except Err as error:
            host.fail(error)
        page["objects"] = [R2Object(info) for info in page["objects"]]
        return page

    async def create_multipart_upload(self, key: Any, options: Any = None, **more: Any) -> R2MultipartUpload:
        text = options_text(options, more, not_of_type("createMultipartUpload", "R2Bucket", 2, "MultipartOptions"))
        try:
            upload_id = host.r2.create_multipart_upload(self._name, key_text(key), text)
        except Err as error:
            host.fail(error)
        return R2MultipartUpload(self._name, key_text(key), upload_id)

    createMultipartUpload = create_multipart_upload

    def resume_multipart_upload(self, key: Any, upload_id: Any) -> R2MultipartUpload:
        """The upload of that id; that it exists shows when it is used."""
        return R2MultipartUpload(self._name, key_text(key), key_text(upload_id))

    resumeMultipartUpload = resume_multipart_upload


class R2MultipartUpload:
    """An object in parts that is not there until `complete`."""

    def __init__(self, name: str, key: str, upload_id: str) -> None:
        self._name = name
        self.key = key
        self.upload_id = self.uploadId = upload_id

    async def upload_part(self, part_number: Any, value: Any, options: Any = None, **more: Any) -> JsDict:
        """{partNumber, etag}. A part of the same number is replaced."""
        if {**(options or {}), **more}:
            raise host.JsException("The parts of an upload have no options here: ssecKey is not supported.")
        number = int32(part_number)
        refusal = not_of_type("uploadPart", "R2MultipartUpload", 2, _R2_CONTENT)
        if value is None:
            raise TypeError(refusal)
        payload = await host.to_payload(_r2_content(value, refusal))
        try:
            return load(  # type: ignore[no-any-return]
                host.r2.upload_part(self._name, self.key, self.upload_id, number, payload)
            )
        except Err as error:
            host.fail(error)

    uploadPart = upload_part

    async def complete(self, parts: Sequence[Any]) -> R2Object:
        """The object that the parts become. Each part is what `upload_part` gave, or a mapping of the same form."""
        if not isinstance(parts, list | tuple):
            raise TypeError(not_of_type("complete", "R2MultipartUpload", 1, "Array"))
        listed = json.dumps([_part(part) for part in parts])
        try:
            info = host.r2.complete_multipart_upload(self._name, self.key, self.upload_id, listed)
        except Err as error:
            host.fail(error)
        return R2Object(json.loads(info))

    async def abort(self) -> None:
        try:
            host.r2.abort_multipart_upload(self._name, self.key, self.upload_id)
        except Err as error:
            host.fail(error)


def _part(part: Any) -> Any:
    return {camel(str(name)): value for name, value in part.items()} if isinstance(part, Mapping) else part


_R2_CONTENT = "ReadableStream or ArrayBuffer or ArrayBufferView or string or Blob"


def _r2_content(value: Any, refusal: str) -> Raw:
    if value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, int | float | Mapping | list | tuple):
        raise TypeError(refusal)
    try:
        return content_of(value)[0]
    except TypeError:
        raise TypeError(refusal) from None
