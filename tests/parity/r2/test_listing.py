"""Listings: order, prefixes, delimiters, pages, metadata."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.calls import NAN, UNDEFINED, Operation, call, result
from tests.parity.sides import Parity

KEYS = [
    "o/10", "o/9", "o/Z", "o/a", "o/é", "o/\uffff", "o/\U0001f600", "o/", "o", "p%", "p_", "p\\", "P", "p", "b",
    "a/b/c", "a/b/d", "a/c", "a", "a//b", "a/", "x--y--z", "x--y", "x", "é/1", "é/2", "\U0001f600/1", "", "d/",
]  # fmt: skip
METADATA = {"customMetadata": {"k": "v"}, "httpMetadata": {"contentType": "a/b"}}
PUTS = [call("put", key, key, METADATA) for key in KEYS]


def pages(start: int, **options: Any) -> list[Operation]:
    """A listing of three pages, whose first has the index `start`."""
    cursors = [{}, {"cursor": result(start, "cursor")}, {"cursor": result(start + 1, "cursor")}]
    return [call("list", {**options, **cursor}) for cursor in cursors]


def test_objects_come_in_the_order_of_their_keys_bytes(r2: Parity) -> None:
    results = r2([*PUTS, call("list")])

    assert [each["key"] for each in results[-1]["value"]["objects"]] == sorted(KEYS, key=str.encode)


@pytest.mark.parametrize("prefix", ["", "o", "o/", "a/", "a", "x", "é", "\U0001f600", "none", "x" * 2000])
def test_prefixes_and_delimiters(r2: Parity, prefix: str) -> None:
    operations = [*PUTS]
    for delimiter in (None, "/", "--", "b", "é", "", "//", "\U0001f600", "/b"):
        options = {"prefix": prefix} | ({} if delimiter is None else {"delimiter": delimiter})
        operations.append(call("list", options))
        for limit in (1, 2, 3):
            operations += pages(len(operations), limit=limit, **options)

    r2(operations)


LIMITS = [0, -1, -2, 1, 2, 28, 29, 30, 1000, 1001, 2.7, "3", "x", NAN, 2**31, True, UNDEFINED]


def test_limits(r2: Parity) -> None:
    operations = [*PUTS]
    for limit in LIMITS:
        operations += pages(len(operations), limit=limit)

    r2(operations)


@pytest.mark.parametrize("more", [{}, {"delimiter": "/"}, {"delimiter": "/", "prefix": "a/"}, {"prefix": "o"}])
def test_starting_after_a_key(r2: Parity, more: dict[str, str]) -> None:
    operations = [*PUTS]
    for start_after in ("", "a", "a/b", "a/b/c", "o/é", "\U0001f600/1", "zzz", "a/zzz", 5):
        operations += pages(len(operations), startAfter=start_after, limit=2, **more)
        operations.append(call("list", {"startAfter": start_after, **more}))

    r2(operations)


INCLUDES: list[Any] = [
    [], ["httpMetadata"], ["customMetadata"], ["httpMetadata", "customMetadata"], ["x"], ["httpMetadata", "y"],
    "httpMetadata", 5, [5], ["httpMetadata", "httpMetadata"],
]  # fmt: skip


def test_including_metadata(r2: Parity) -> None:
    options = [{"include": include, **more} for include in INCLUDES for more in ({}, {"delimiter": "/"})]

    r2([*PUTS, *(call("list", each) for each in options)])


@pytest.mark.parametrize("name", ["prefix", "delimiter", "cursor", "startAfter"])
def test_what_must_be_text(r2: Parity, name: str) -> None:
    r2([call("list", {name: 5}), call("list", {name: ["a"]})])


@pytest.mark.parametrize("options", [None, UNDEFINED, {}, "x", 5, {"unknown": 1}])
def test_options_of_a_listing(r2: Parity, options: Any) -> None:
    r2([*PUTS[:3], call("list", options)])


def test_a_page_with_metadata_has_no_more_than_a_hundred_entries(r2: Parity) -> None:
    puts = [call("put", f"{n:03}", "") for n in range(101)]

    results = r2([*puts, call("list", {"include": ["httpMetadata"]}), call("list", {"limit": 100}), call("list")])

    assert [len(each["value"]["objects"]) for each in results[101:]] == [100, 100, 101]


def test_a_cursor_survives_writes(r2: Parity) -> None:
    first = len(PUTS)
    cursor = result(first, "cursor")

    r2(
        [
            *PUTS,
            call("list", {"limit": 3}),
            *(call("put", "aa", ""), call("put", "A", ""), call("delete", ["a", "o/10"])),
            call("list", {"limit": 3, "cursor": cursor}),
            call("list", {"limit": 3, "cursor": cursor, "startAfter": "o/9"}),
            call("list", {"limit": 3, "cursor": cursor, "startAfter": "A"}),
            call("list", {"cursor": cursor, "delimiter": "/"}),
        ]
    )
