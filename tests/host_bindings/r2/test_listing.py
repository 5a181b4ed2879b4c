"""Listings: byte order, prefixes and delimiters, pages that meet end to end."""

from __future__ import annotations

from pathlib import Path

from host_bindings.r2.objects import Attributes
from host_bindings.r2.store import Bucket
from tests.host_bindings.r2.buckets import using


def listed(directory: Path, keys: list[str], **options: object) -> tuple[list[str], list[str], bool]:
    found: list[tuple[list[str], list[str], bool]] = []

    async def work(bucket: Bucket) -> None:
        for key in keys:
            await bucket.put(key, b"")
        page = await bucket.list(**options)  # type: ignore[arg-type]
        found.append(([each.key for each in page.objects], page.prefixes, page.cursor is not None))

    using(directory, work)
    return found[0]


KEYS = ["a", "b/1", "b/2", "b/c/1", "b-", "c//d", "d"]


def test_a_delimiter_folds_keys_into_prefixes(tmp_path: Path) -> None:
    assert listed(tmp_path, KEYS, delimiter="/") == (["a", "b-", "d"], ["b/", "c/"], False)
    assert listed(tmp_path, KEYS, delimiter="/", prefix="b/") == (["b/1", "b/2"], ["b/c/"], False)
    assert listed(tmp_path, KEYS, delimiter="//") == (["a", "b-", "b/1", "b/2", "b/c/1", "d"], ["c//"], False)
    assert listed(tmp_path, KEYS, delimiter="") == (sorted(KEYS), [], False)
    assert listed(tmp_path, KEYS, delimiter="/", start_after="b/1") == (["d"], ["b/", "c/"], False)
    assert listed(tmp_path, KEYS, delimiter="/", limit=3) == (["a", "b-"], ["b/"], True)


def test_pages_of_objects_and_prefixes_meet_end_to_end(tmp_path: Path) -> None:
    async def work(bucket: Bucket) -> None:
        for key in KEYS:
            await bucket.put(key, b"")
        cursor: str | None = None
        found: list[str] = []
        while True:
            page = await bucket.list(delimiter="/", limit=1, cursor=cursor)
            found += [each.key for each in page.objects] + page.prefixes
            # A key that comes into a prefix which has been listed does not bring it back.
            await bucket.put(f"b/new{len(found)}", b"")
            cursor = page.cursor
            if cursor is None:
                break
        assert found == ["a", "b-", "b/", "c/", "d"]

    using(tmp_path, work)


def test_the_later_of_cursor_and_start_after_wins(tmp_path: Path) -> None:
    async def work(bucket: Bucket) -> None:
        for key in "abcdef":
            await bucket.put(key, b"")
        cursor = (await bucket.list(limit=3)).cursor
        for start_after, expected in (("a", "d"), ("e", "f")):
            page = await bucket.list(cursor=cursor, start_after=start_after)
            assert page.objects[0].key == expected

    using(tmp_path, work)


def test_a_listing_holds_only_the_metadata_that_was_asked_for(tmp_path: Path) -> None:
    async def work(bucket: Bucket) -> None:
        await bucket.put("key", b"", attributes=Attributes('{"a": 1}', '{"b": 2}'))
        for include, expected in (
            ((), ("{}", "{}")),
            (("httpMetadata",), ('{"a": 1}', "{}")),
            (("httpMetadata", "customMetadata"), ('{"a": 1}', '{"b": 2}')),
        ):
            (found,) = (await bucket.list(include=include)).objects
            assert (found.http_metadata_json, found.custom_metadata_json) == expected

    using(tmp_path, work)
