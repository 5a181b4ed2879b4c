"""The R2 bucket before a list of operations, and plain objects for R2's classes."""

from workers import Headers
from workers.r2 import R2MultipartUpload, R2Object

HASHES = ("md5", "sha1", "sha256", "sha384", "sha512")
FIELDS = ("key", "version", "size", "etag", "httpEtag", "uploaded", "httpMetadata", "customMetadata", "range")
MORE = ("storageClass", "ssecKeyMd5", "bodyUsed")


async def reset(bucket):
    cursor = None
    while True:
        page = await bucket.list(cursor=cursor)
        await bucket.delete([found.key for found in page.objects])
        cursor = page.cursor
        if not page.truncated:
            return


def describe(value):
    if isinstance(value, R2MultipartUpload):
        return {"key": value.key, "uploadId": value.upload_id}
    if not isinstance(value, R2Object):
        return None
    found = {name: getattr(value, name) for name in (*FIELDS, *MORE)}
    checksums = {name: getattr(value.checksums, name) for name in HASHES}
    return {
        **{name: member for name, member in found.items() if member is not None},
        "checksums": {name: member for name, member in checksums.items() if member is not None},
        "checksumsJson": value.checksums.to_json(),
        "hasBody": value.body is not None,
        "headers": written(value),
    }


def written(found):
    headers = Headers({"x-other": "kept"})
    try:
        found.write_http_metadata(headers)
    except Exception as error:
        return str(error)
    return dict(headers)
