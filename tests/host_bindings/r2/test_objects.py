"""Objects come back as they were put, or the old ones stay: whole, each with its bytes, and no files but theirs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from host_bindings.body import CHUNK_BYTES, BytesBody, Payload, Pipe
from host_bindings.contract import Failure
from host_bindings.r2.errors import R2Error
from host_bindings.r2.objects import Attributes, Range
from host_bindings.r2.store import SMALL_FILE_BYTES, Bucket
from tests.host_bindings.r2.buckets import NONE_SMALL, Pieces, contents_kept, names, object_files, read, using
from tests.host_bindings.storage.inputs import HOSTILE_KEYS

SIZES = (0, 1, 65_536, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 5_000_001)


@pytest.mark.parametrize("size", SIZES)
def test_bytes_of_any_size_come_back_as_they_were(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    md5 = hashlib.md5(data).hexdigest()

    async def work(bucket: Bucket) -> None:
        pieces = Pieces([data[i : i + 9999] for i in range(0, size, 9999)])
        values: list[Payload] = [data, BytesBody(data), pieces]
        for n, value in enumerate(values):
            stored = await bucket.put(str(n), value)
            assert stored is not None and (stored.size, stored.etag) == (size, md5)
            assert json.loads(stored.checksums_json) == {"md5": md5}
            assert await bucket.head(str(n)) == stored
            assert await read(bucket, str(n)) == data

    async def after_restart(bucket: Bucket) -> None:
        for n in range(3):
            assert await read(bucket, str(n)) == data

    using(tmp_path, work)
    using(tmp_path, after_restart)


def test_an_object_keeps_what_was_said_about_it(tmp_path: Path) -> None:
    said = Attributes('{"contentType": "text/plain"}', '{"colour": "red"}', "InfrequentAccess")

    async def work(bucket: Bucket) -> None:
        first = await bucket.put("key", "text", attributes=said)
        assert first is not None and first.uploaded_ms == 1_700_000_000_000
        assert (first.http_metadata_json, first.custom_metadata_json, first.storage_class) == said
        second = await bucket.put("key", None)
        assert second is not None and second.version != first.version
        assert (second.size, second.http_metadata_json, second.custom_metadata_json) == (0, "{}", "{}")

    using(tmp_path, work)


def test_any_text_is_a_key_and_none_is_a_path(tmp_path: Path) -> None:
    keys = [*HOSTILE_KEYS, "", "x" * 1024]

    async def work(bucket: Bucket) -> None:
        for key in keys:
            await bucket.put(key, key)
        for key in keys:
            assert await read(bucket, key) == key.encode()
        assert await names(bucket) == sorted(keys, key=str.encode)
        await bucket.delete(keys[::2])
        assert await names(bucket) == sorted(keys[1::2], key=str.encode)

    using(tmp_path / "bucket", work)
    assert [path.name for path in tmp_path.iterdir()] == ["bucket"]
    assert contents_kept(tmp_path / "bucket") == len(keys) // 2


def test_replaced_and_deleted_objects_leave_no_files(tmp_path: Path) -> None:
    async def work(bucket: Bucket) -> None:
        for n in range(120):
            await bucket.put("key", str(n))
        await bucket.put("gone", "x")
        await bucket.delete(["gone", "missing", "gone"])

    using(tmp_path, work)
    assert contents_kept(tmp_path) == 1


def test_a_reader_keeps_the_object_that_it_opened(tmp_path: Path) -> None:
    old = b"a" * 1_000_000

    async def work(bucket: Bucket) -> None:
        await bucket.put("key", old)
        reading = await bucket.get("key")
        assert reading is not None and reading.body is not None
        await bucket.put("key", b"new")
        await bucket.delete(["key"])
        assert await reading.body.read_all(10**9) == old
        reading.body.close()

    using(tmp_path, work)


def test_readers_and_writers_of_one_key_see_whole_objects(tmp_path: Path) -> None:
    async def work(bucket: Bucket) -> None:
        await bucket.put("key", b"0" * 100)

        async def write(n: int) -> None:
            for _ in range(20):
                await bucket.put("key", str(n).encode() * 100)

        async def look() -> None:
            for _ in range(100):
                data = await read(bucket, "key")
                assert data is not None and len(data) == 100 and len(set(data)) == 1

        await asyncio.gather(*[write(n) for n in range(4)], *[look() for _ in range(4)])

    using(tmp_path, work)
    assert contents_kept(tmp_path) == 1


@pytest.mark.parametrize("size", [10, 2 * CHUNK_BYTES])
@pytest.mark.parametrize("difference", [-1, 1])
def test_a_stream_of_another_length_than_it_said_leaves_the_old_object(
    tmp_path: Path, size: int, difference: int
) -> None:
    async def work(bucket: Bucket) -> None:
        await bucket.put("key", "old")
        stream = Pieces([b"x" * size], length=size + difference)
        with pytest.raises(Failure):
            await bucket.put("key", stream)
        assert stream.closed
        assert await read(bucket, "key") == b"old"

    using(tmp_path, work)
    assert contents_kept(tmp_path) == 1


@pytest.mark.parametrize("size", [10, 3 * CHUNK_BYTES])
def test_a_stream_that_breaks_off_leaves_the_old_object(tmp_path: Path, size: int) -> None:
    async def work(bucket: Bucket) -> None:
        await bucket.put("key", "old")
        pipe = Pipe()
        await pipe.write(b"x" * size)
        pipe.break_off("The client has gone.")
        with pytest.raises(Failure, match=r"The client has gone\."):
            await bucket.put("key", pipe)
        assert await read(bucket, "key") == b"old"

    using(tmp_path, work)
    assert contents_kept(tmp_path) == 1


def test_a_put_that_is_cancelled_leaves_the_old_object(tmp_path: Path) -> None:
    async def work(bucket: Bucket) -> None:
        await bucket.put("key", "old")
        pipe = Pipe()
        putting = asyncio.ensure_future(bucket.put("key", pipe))
        await asyncio.sleep(0)
        for _ in range(4):
            await pipe.write(b"x" * CHUNK_BYTES)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        with pytest.raises(Failure):
            await pipe.write(b"more")
        assert await read(bucket, "key") == b"old"

    using(tmp_path, work)
    assert contents_kept(tmp_path) == 1


def test_whenever_a_put_is_cancelled_files_and_metadata_agree(tmp_path: Path) -> None:
    left: list[int] = []

    async def work(bucket: Bucket) -> None:
        for turns in range(40):
            putting = asyncio.ensure_future(bucket.put(f"key{turns}", b"x" * 100))
            for _ in range(turns):
                await asyncio.sleep(0.0002)
            putting.cancel()
            await asyncio.gather(putting, return_exceptions=True)
        for key in await names(bucket):
            assert await read(bucket, key) == b"x" * 100
        left.append(len(await names(bucket)))

    using(tmp_path, work)
    assert [contents_kept(tmp_path)] == left


def test_an_object_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async def work(bucket: Bucket) -> None:
        for value in (b"x" * 11, BytesBody(b"x" * 11), Pieces([b"x" * 11])):
            with pytest.raises(R2Error) as caught:
                await bucket.put("key", value, size_max=10)
            assert caught.value.code == 100100
        stream = Pieces([b"x" * CHUNK_BYTES] * 5)
        with pytest.raises(R2Error):
            await bucket.put("key", stream, size_max=2 * CHUNK_BYTES)
        assert stream.closed and stream.pieces
        assert await bucket.head("key") is None

    using(tmp_path, work)
    assert contents_kept(tmp_path) == 0


def test_a_small_object_is_no_file_of_its_own_and_may_become_one(tmp_path: Path) -> None:
    small, large = b"s" * SMALL_FILE_BYTES, b"l" * (SMALL_FILE_BYTES + 1)

    async def work(bucket: Bucket) -> None:
        for value in (small, large, small, b"", large):
            await bucket.put("key", value)
            assert await read(bucket, "key") == value
            if value:
                assert await read(bucket, "key", Range(offset=1, length=3)) == value[1:4]
        await bucket.put("other", small)

    async def after_restart(bucket: Bucket) -> None:
        assert await read(bucket, "other") == small
        await bucket.delete(["key", "other"])

    using(tmp_path, work)
    assert len(object_files(tmp_path)) == 1
    using(tmp_path, after_restart)
    assert contents_kept(tmp_path) == 0


def test_a_bucket_of_the_time_before_small_files_goes_on(tmp_path: Path) -> None:
    async def before(bucket: Bucket) -> None:
        await bucket.put("old", b"before")

    async def now(bucket: Bucket) -> None:
        assert await read(bucket, "old") == b"before"
        await bucket.put("new", b"now")
        await bucket.put("old", b"again")
        assert (await read(bucket, "old"), await read(bucket, "new")) == (b"again", b"now")

    using(tmp_path, before, small_bytes_max=NONE_SMALL)
    with closing(sqlite3.connect(tmp_path / "r2.sqlite")) as connection:
        connection.executescript("DROP TABLE small_files; PRAGMA user_version = 2;")
    using(tmp_path, now)
    assert object_files(tmp_path) == []
    assert contents_kept(tmp_path) == 2
