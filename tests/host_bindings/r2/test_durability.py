"""Crashes, several processes, a full disk, damage: nothing answered is lost, nothing stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from host_bindings.body import CHUNK_BYTES, BytesBody, Pipe
from host_bindings.r2.files import ObjectFiles
from host_bindings.r2.objects import Attributes
from host_bindings.r2.store import Bucket
from host_bindings.storage.failures import StorageFailure
from tests.host_bindings.r2.buckets import NONE_SMALL, contents_kept, names, object_files, read, using
from tests.host_bindings.r2.writer import content
from tests.host_bindings.storage.crash import acknowledged_before_kill
from tests.host_bindings.storage.faults import files_no_longer_than


@pytest.mark.parametrize("count", [5, 40, 100])
def test_nothing_that_was_answered_is_lost_when_the_process_is_killed(tmp_path: Path, count: int) -> None:
    lines = acknowledged_before_kill("tests.host_bindings.r2.writer", tmp_path, count)

    async def check(bucket: Bucket) -> None:
        for line in lines:
            done, key = line.split()
            assert await read(bucket, key) == (content(key) if done == "put" else None)
        for key in await names(bucket):
            assert await read(bucket, key) in (content(key), b"replaced soon")

    async def check_for_leftovers(bucket: Bucket) -> None:
        assert contents_kept(tmp_path) == len(await names(bucket))

    using(tmp_path, check)
    using(tmp_path, check_for_leftovers)


def test_what_crashed_writers_left_is_swept_and_what_others_write_is_not(tmp_path: Path) -> None:
    files = ObjectFiles(tmp_path)
    crashed_early, crashed_late, writing, published = (files.create() for _ in range(4))
    for incoming in (crashed_early, crashed_late, writing, published):
        incoming.write(b"x")
    crashed_late.publish()
    published.publish()
    crashed_early.abandon()
    crashed_late.abandon()

    async def work(bucket: Bucket) -> None:
        await bucket.put("key", "value")

    using(tmp_path, work, small_bytes_max=NONE_SMALL)
    # Left are the object, the file that is being written, and the one that waits for its commit under both its names.
    left = {path.name for path in object_files(tmp_path)}
    assert {writing.name, published.name} < left and len(left) == 3
    for incoming in (writing, published):
        incoming.discard()


def test_a_file_whose_commit_succeeded_before_the_crash_is_kept(tmp_path: Path) -> None:
    async def work(bucket: Bucket) -> None:
        await bucket.put("key", "value")

    async def check(bucket: Bucket) -> None:
        assert await read(bucket, "key") == b"value"

    using(tmp_path, work, small_bytes_max=NONE_SMALL)
    (file,) = object_files(tmp_path)
    os.link(file, tmp_path / "incoming" / file.name)
    using(tmp_path, check, small_bytes_max=NONE_SMALL)
    assert object_files(tmp_path) == [file]
    using(tmp_path, check, small_bytes_max=NONE_SMALL)


def test_two_processes_share_a_bucket(tmp_path: Path) -> None:
    async def work(bucket: Bucket) -> None:
        other = asyncio.create_task(
            asyncio.to_thread(acknowledged_before_kill, "tests.host_bindings.r2.writer", tmp_path, 60)
        )
        n = 0
        while not other.done():
            await bucket.put(f"mine/{n}", str(n))
            n += 1
        for line in other.result():
            done, key = line.split()
            assert await read(bucket, key) == (content(key) if done == "put" else None)
        for each in range(n):
            assert await read(bucket, f"mine/{each}") == str(each).encode()

    using(tmp_path, work)


def test_a_full_disk_fails_the_put_and_keeps_the_old_object(tmp_path: Path) -> None:
    async def work(bucket: Bucket) -> None:
        await bucket.put("key", "old")
        with files_no_longer_than(128 * 1024):
            for value in (b"x" * 200_000, BytesBody(b"x" * 1_000_000)):
                with pytest.raises(StorageFailure):
                    await bucket.put("key", value)
            assert await read(bucket, "key") == b"old"
        await bucket.put("key", b"x" * 1_000_000)

    using(tmp_path, work)
    assert contents_kept(tmp_path) == 1


def test_when_the_commit_fails_its_file_is_cleared_away_later(tmp_path: Path) -> None:
    large = Attributes(custom_metadata_json=json.dumps({"x": "y" * 8000}))

    async def fail(bucket: Bucket) -> None:
        for n in range(20):
            await bucket.put(str(n), "old", attributes=large)
        with files_no_longer_than(100 * 1024), pytest.raises(StorageFailure):
            await bucket.put("key", "new", attributes=large)
        assert await bucket.head("key") is None

    async def check(bucket: Bucket) -> None:
        assert await bucket.head("key") is None

    using(tmp_path, fail, small_bytes_max=NONE_SMALL)
    using(tmp_path, check, small_bytes_max=NONE_SMALL)
    assert contents_kept(tmp_path) == 20


@pytest.mark.parametrize("damage", ["truncate", "remove"])
def test_damaged_bytes_are_an_error_and_never_data(tmp_path: Path, damage: str) -> None:
    async def work(bucket: Bucket) -> None:
        await bucket.put("key", b"x" * 100)
        await bucket.put("other", b"intact")
        file = next(path for path in object_files(tmp_path) if path.stat().st_size == 100)
        if damage == "truncate":
            os.truncate(file, 99)
        else:
            file.unlink()
        with pytest.raises(StorageFailure) as caught:
            await bucket.get("key")
        assert str(tmp_path) not in caught.value.message
        assert await read(bucket, "other") == b"intact"
        await bucket.put("key", b"again")
        assert await read(bucket, "key") == b"again"

    using(tmp_path, work, small_bytes_max=NONE_SMALL)


def test_a_closed_bucket_refuses(tmp_path: Path) -> None:
    async def main() -> None:
        bucket = Bucket(tmp_path / "bucket")
        await bucket.put("key", "value")
        await bucket.close()
        await bucket.close()
        with pytest.raises(StorageFailure):
            await bucket.get("key")
        with pytest.raises(StorageFailure):
            await bucket.put("key", "value")
        never_used = Bucket(tmp_path / "other")
        await never_used.close()

    asyncio.run(main())
    assert not (tmp_path / "other").exists()


def test_a_bucket_can_be_closed_while_a_put_is_under_way(tmp_path: Path) -> None:
    async def main() -> None:
        bucket = Bucket(tmp_path)
        await bucket.put("first", "value")
        pipe = Pipe()
        putting = asyncio.ensure_future(bucket.put("key", pipe))
        await pipe.write(b"x" * 2 * CHUNK_BYTES)
        await bucket.close()
        shutil.rmtree(tmp_path)
        pipe.finish()
        with pytest.raises(StorageFailure):
            await putting

    asyncio.run(main())
