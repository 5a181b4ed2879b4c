"""Checksums, conditions and ranges: what a caller demands of an object."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from host_bindings.body import BytesBody
from host_bindings.r2.errors import R2Error
from host_bindings.r2.objects import Checksum, Conditions, Etag, Range, StoredObject
from host_bindings.r2.store import Bucket
from tests.host_bindings.r2.buckets import contents_kept, read, using


@pytest.mark.parametrize("name", ["md5", "sha1", "sha256", "sha384", "sha512"])
def test_a_checksum_is_verified_and_kept(tmp_path: Path, name: str) -> None:
    data = b"some bytes" * 50_000
    value = hashlib.new(name, data).hexdigest()

    async def work(bucket: Bucket) -> None:
        stored = await bucket.put("key", BytesBody(data), checksum=Checksum(name, value))
        assert stored is not None
        assert json.loads(stored.checksums_json) == {"md5": hashlib.md5(data).hexdigest(), name: value}
        with pytest.raises(R2Error) as caught:
            await bucket.put("key", b"other", checksum=Checksum(name, value))
        assert caught.value.code == 10037 and value in caught.value.message
        assert await read(bucket, "key") == data

    using(tmp_path, work)
    assert contents_kept(tmp_path) == 1


def test_of_many_who_create_one_key_one_succeeds(tmp_path: Path) -> None:
    create_only = Conditions(etag_does_not_match=(Etag(None),))

    async def work(bucket: Bucket) -> None:
        stored = await asyncio.gather(*[bucket.put("key", str(n), conditions=create_only) for n in range(30)])
        winners = [each for each in stored if each is not None]
        assert len(winners) == 1
        assert await bucket.head("key") == winners[0]

    using(tmp_path, work)
    assert contents_kept(tmp_path) == 1


def test_of_many_who_replace_one_version_one_succeeds(tmp_path: Path) -> None:
    async def work(bucket: Bucket) -> None:
        first = await bucket.put("key", "first")
        assert first is not None
        replace = Conditions(etag_matches=(Etag(first.etag),))
        stored = await asyncio.gather(*[bucket.put("key", str(n), conditions=replace) for n in range(30)])
        assert sum(each is not None for each in stored) == 1

    using(tmp_path, work)


FOUND = StoredObject("key", "v", 1, "abc", 1_000_500, "{}", "Standard", "f", "{}", "{}")
ABC, OTHER, WEAK_ABC, ANY = Etag("abc"), Etag("other"), Etag("abc", weak=True), Etag(None)


@pytest.mark.parametrize(
    ("conditions", "with_object", "without"),
    [
        (Conditions(), True, True),
        (Conditions(etag_matches=(ABC,)), True, False),
        (Conditions(etag_matches=(OTHER, ABC)), True, False),
        (Conditions(etag_matches=(OTHER,)), False, False),
        (Conditions(etag_matches=(WEAK_ABC,)), False, False),
        (Conditions(etag_matches=(ANY,)), True, False),
        (Conditions(etag_does_not_match=(ABC,)), False, True),
        (Conditions(etag_does_not_match=(WEAK_ABC,)), False, True),
        (Conditions(etag_does_not_match=(OTHER,)), True, True),
        (Conditions(etag_does_not_match=(ANY,)), False, True),
        (Conditions(uploaded_before_ms=1_000_500), False, True),
        (Conditions(uploaded_before_ms=1_000_501), True, True),
        (Conditions(uploaded_before_ms=1_000_999, whole_seconds=True), False, True),
        (Conditions(uploaded_before_ms=1_001_000, whole_seconds=True), True, True),
        (Conditions(uploaded_after_ms=1_000_500), False, False),
        (Conditions(uploaded_after_ms=1_000_499), True, False),
        (Conditions(uploaded_after_ms=1_000_000, whole_seconds=True), False, False),
        (Conditions(uploaded_after_ms=999_999, whole_seconds=True), True, False),
        # An etag that says enough makes the time beside it irrelevant.
        (Conditions(etag_matches=(ABC,), uploaded_before_ms=0), True, False),
        (Conditions(etag_does_not_match=(OTHER,), uploaded_after_ms=2_000_000), True, False),
        (Conditions(etag_matches=(OTHER,), uploaded_before_ms=2_000_000), False, False),
    ],
)
def test_conditions(conditions: Conditions, with_object: bool, without: bool) -> None:
    assert conditions.hold(FOUND) is with_object
    assert conditions.hold(None) is without


def test_a_get_whose_condition_does_not_hold_has_no_body(tmp_path: Path) -> None:
    async def work(bucket: Bucket) -> None:
        await bucket.put("key", "value")
        refused = await bucket.get("key", conditions=Conditions(etag_matches=(OTHER,)))
        assert refused is not None and refused.body is None and refused.object.key == "key"
        assert await bucket.get("missing", conditions=Conditions(etag_matches=(OTHER,))) is None

    using(tmp_path, work)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Range(offset=3), (3, 7)),
        (Range(length=4), (0, 4)),
        (Range(offset=3, length=4), (3, 4)),
        (Range(offset=8, length=100), (8, 2)),
        (Range(suffix=4), (6, 4)),
        (Range(suffix=100), (0, 10)),
        (Range(header="bytes=0-3"), (0, 4)),
        (Range(header="bytes=3-"), (3, 7)),
        (Range(header="bytes=-3"), (7, 3)),
        (Range(header="bytes=5-100"), (5, 5)),
        (Range(header="Bytes = 2 - 3"), (2, 2)),
        # A header that is not one satisfiable range means the whole.
        (Range(header="bytes=0-1,3-4"), (0, 10)),
        (Range(header="bytes=10-"), (0, 10)),
        (Range(header="bytes=5-3"), (0, 10)),
        (Range(header="bytes=-"), (0, 10)),
        (Range(header="bytes=-0"), (0, 10)),
        (Range(header="bytes=-10"), (0, 10)),
        (Range(header="lines=1-2"), (0, 10)),
        (Range(header="bytes=" + "9" * 100 + "-"), (0, 10)),
    ],
)
def test_ranges(tmp_path: Path, wanted: Range, expected: tuple[int, int]) -> None:
    data = b"0123456789"

    async def work(bucket: Bucket) -> None:
        await bucket.put("key", data)
        found = await bucket.get("key", range=wanted)
        assert found is not None and found.range == expected and found.object.size == 10
        assert found.body is not None and found.body.length == expected[1]
        found.body.close()
        offset, length = expected
        assert await read(bucket, "key", wanted) == data[offset : offset + length]

    using(tmp_path, work)


@pytest.mark.parametrize("wanted", [Range(offset=10), Range(offset=11), Range(length=0), Range(suffix=0)])
def test_ranges_outside_the_object(wanted: Range) -> None:
    with pytest.raises(R2Error) as caught:
        wanted.resolve(10)
    assert caught.value.code == 10039
