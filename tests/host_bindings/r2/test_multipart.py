"""Uploads in parts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from host_bindings.body import BytesBody
from host_bindings.r2.errors import R2Error
from host_bindings.r2.objects import Attributes
from host_bindings.r2.store import Bucket
from host_bindings.r2.uploads import NamedPart
from tests.host_bindings.r2.buckets import PART_BYTES_MIN, Pieces, object_files, read, using
from tests.host_bindings.storage.inputs import Clock


def code_of(error: pytest.ExceptionInfo[R2Error]) -> int:
    return error.value.code


def test_parts_become_one_object_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    first, last = b"a" * PART_BYTES_MIN, b"b" * 7

    async def work(bucket: Bucket) -> None:
        await bucket.put("key", "old")
        said = Attributes('{"contentType": "x/y"}', "{}", "Standard")
        upload = await bucket.create_upload("key", said)
        three = await bucket.upload_part("key", upload, 3, BytesBody(last))
        await bucket.upload_part("key", upload, 1, b"replaced")
        one = await bucket.upload_part("key", upload, 1, first)
        await bucket.upload_part("key", upload, 2, b"left out")
        assert await read(bucket, "key") == b"old"
        done = await bucket.complete_upload("key", upload, [NamedPart(1, one), NamedPart(3, three)])
        md5s = hashlib.md5(first).digest() + hashlib.md5(last).digest()
        assert done.etag == hashlib.md5(md5s).hexdigest() + "-2"
        assert (done.checksums_json, done.http_metadata_json) == ("{}", said.http_metadata_json)
        assert await bucket.head("key") == done
        assert await read(bucket, "key") == first + last

    using(tmp_path, work)
    assert len(object_files(tmp_path)) == 1


def test_an_upload_without_parts_is_an_empty_object(tmp_path: Path) -> None:
    async def work(bucket: Bucket) -> None:
        upload = await bucket.create_upload("key")
        done = await bucket.complete_upload("key", upload, [])
        assert (done.etag, done.size) == ("d41d8cd98f00b204e9800998ecf8427e-0", 0)
        assert await read(bucket, "key") == b""

    using(tmp_path, work)


def test_completions_that_are_refused(tmp_path: Path) -> None:
    small, equal, long = b"x" * (PART_BYTES_MIN - 1), b"x" * PART_BYTES_MIN, b"x" * (PART_BYTES_MIN + 1)

    async def work(bucket: Bucket) -> None:
        upload = await bucket.create_upload("key")
        parts = [
            NamedPart(number, await bucket.upload_part("key", upload, number, data))
            for number, data in enumerate((small, equal, long, equal), 1)
        ]
        replaced = parts[3]
        await bucket.upload_part("key", upload, 4, equal)
        for named, code in (
            ([parts[0], parts[1]], 10011),
            ([parts[1], parts[0], parts[2]], 10011),
            ([parts[1], parts[2]], 10048),
            ([parts[1], parts[0]], 10048),
            ([parts[1], parts[1]], 10001),
            ([replaced], 10025),
            ([NamedPart(99, parts[1].etag)], 10025),
            ([NamedPart(2, "wrong")], 10025),
        ):
            with pytest.raises(R2Error) as caught:
                await bucket.complete_upload("key", upload, named)
            assert code_of(caught) == code
        assert await bucket.head("key") is None

    using(tmp_path, work)


def test_uploads_that_have_ended_or_never_were(tmp_path: Path) -> None:
    async def work(bucket: Bucket) -> None:
        completed = await bucket.create_upload("key")
        await bucket.complete_upload("key", completed, [])
        aborted = await bucket.create_upload("key")
        await bucket.upload_part("key", aborted, 1, b"x")
        await bucket.abort_upload("key", aborted)
        of_another = await bucket.create_upload("other")
        for upload, codes in (
            (completed, (10024, 10024, None)),
            (aborted, (10024, 10024, None)),
            ("unknown", (10024, 10001, 10001)),
            (of_another, (10024, 10001, 10001)),
        ):
            stream = Pieces([b"x"])
            for operation, code in (
                (bucket.upload_part("key", upload, 1, stream), codes[0]),
                (bucket.complete_upload("key", upload, []), codes[1]),
                (bucket.abort_upload("key", upload), codes[2]),
            ):
                if code is None:
                    await operation
                    continue
                with pytest.raises(R2Error) as caught:
                    await operation
                assert code_of(caught) == code
            assert stream.closed
        assert await bucket.head("key") is not None

    using(tmp_path, work)
    assert len(object_files(tmp_path)) == 1


def test_an_upload_ends_after_seven_days(tmp_path: Path) -> None:
    clock = Clock(1_700_000_000)
    uploads: list[str] = []

    async def begin(bucket: Bucket) -> None:
        uploads.append(await bucket.create_upload("key"))
        await bucket.upload_part("key", uploads[0], 1, b"x")

    async def too_late(bucket: Bucket) -> None:
        with pytest.raises(R2Error) as caught:
            await bucket.upload_part("key", uploads[0], 2, b"x")
        assert code_of(caught) == 10024

    using(tmp_path, begin, clock)
    assert len(object_files(tmp_path)) == 1
    clock.now += 7 * 24 * 3600 + 1
    using(tmp_path, too_late, clock)
    assert object_files(tmp_path) == []


def test_a_bucket_in_use_drops_the_parts_of_uploads_that_have_ended(tmp_path: Path) -> None:
    clock = Clock(1_700_000_000)

    async def work(bucket: Bucket) -> None:
        for _ in range(3):
            upload = await bucket.create_upload("key")
            await bucket.upload_part("key", upload, 1, b"content")
        assert len(object_files(tmp_path)) >= 3
        clock.now += 7 * 24 * 3600 + 1
        await bucket.head("key")

    using(tmp_path, work, clock)

    assert object_files(tmp_path) == []
