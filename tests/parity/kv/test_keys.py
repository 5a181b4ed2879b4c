"""Keys: what is one, and in which order they are listed, a page at a time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.calls import NAN, UNDEFINED, Operation, call, result
from tests.parity.sides import Parity

KEYS: list[Any] = [
    "a", "", ".", "..", "...", "a/b", "//", "%2F", "%", "é", "e\u0301", "\U0001f600", "\uffff", "\x00", "a\x00b",
    "\ud800", "x" * 512, "x" * 513, "é" * 256, "é" * 257, 5, 5.5, None, True, NAN, 1e21, 1e-7, 0.00001, -0.0, " ",
    "\n", "?a=b&c", "#", "+", "\\", "constructor", "__proto__", "cursor", "\r\nX: y",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=lambda key: repr(key)[:20])
def test_a_key(kv: Parity, key: Any) -> None:
    get, with_metadata, delete = call("get", key), call("getWithMetadata", key), call("delete", key)

    kv([get, call("put", key, "value"), get, with_metadata, call("list"), delete, get, delete])


ORDER = ["P", "b", "o", "o/", "o/10", "o/9", "o/Z", "o/a", "o/é", "o/\uffff", "o/\U0001f600", "p", "p%", "p\\", "p_"]


PUTS = [call("put", key, "") for key in reversed(ORDER)]


def pages(start: int, **options: Any) -> list[Operation]:
    """A listing of three pages, whose first has the index `start`."""
    cursors = [{}, {"cursor": result(start, "cursor")}, {"cursor": result(start + 1, "cursor")}]
    return [call("list", {**options, **cursor}) for cursor in cursors]


def test_keys_come_in_the_order_of_their_bytes(kv: Parity) -> None:
    results = kv([*PUTS, call("list")])

    assert [key["name"] for key in results[-1]["value"]["keys"]] == ORDER


@pytest.mark.parametrize("prefix", ["", "o", "o/", "o/é", "p%", "p_", "p\\", "P", "q", "\U0001f600", "o/\U0001f600", 5])
def test_pages_of_a_prefix(kv: Parity, prefix: Any) -> None:
    operations = [*PUTS]
    for limit in (1, 2, 3, 1000):
        operations += pages(len(operations), prefix=prefix, limit=limit)

    kv(operations)


@pytest.mark.parametrize("prefix", ["x" * 512, "x" * 513, "é" * 257, None])
def test_the_length_of_a_prefix(kv: Parity, prefix: Any) -> None:
    kv([call("list", {"prefix": prefix})])


LIMITS = [0, -1, 1, 2, 14, 15, 16, 1000, 1001, 2.7, "3", "x", NAN, 2**31, -(2**31) - 1, True, UNDEFINED]


def test_limits(kv: Parity) -> None:
    operations = [*PUTS]
    for limit in LIMITS:
        operations += pages(len(operations), limit=limit)

    kv(operations)


def test_a_page_that_ends_with_the_last_key_is_complete(kv: Parity) -> None:
    results = kv([*PUTS, call("list", {"limit": len(ORDER)})])

    assert "cursor" not in results[-1]["value"]


@pytest.mark.parametrize("options", [None, UNDEFINED, {}, {"cursor": ""}, {"cursor": None}, {"unknown": 1}, "x", 5])
def test_options_of_a_listing(kv: Parity, options: Any) -> None:
    kv([call("put", "key", ""), call("list", options)])


def test_a_cursor_survives_writes(kv: Parity) -> None:
    first = len(ORDER)
    results = kv(
        [
            *(call("put", key, "") for key in ORDER),
            call("list", {"limit": 5}),
            *(call("put", key, "") for key in ("A", "o/10a", "z")),
            *(call("delete", key) for key in ("o/10", "o/9", "P")),
            call("list", {"limit": 5, "cursor": result(first, "cursor")}),
            call("list", {"cursor": result(first, "cursor")}),
            call("list", {"cursor": result(first, "cursor"), "prefix": "p"}),
            call("list", {"cursor": result(first, "cursor"), "prefix": "P"}),
        ]
    )

    assert [key["name"] for key in results[first + 7]["value"]["keys"]] == ["o/10a", "o/Z", "o/a", "o/é", "o/\uffff"]


def test_a_page_has_no_more_than_a_thousand_keys(kv: Parity) -> None:
    results = kv([*(call("put", f"{n:04}", "") for n in range(1001)), call("list"), call("list", {"limit": 1000})])

    assert len(results[-1]["value"]["keys"]) == 1000 and not results[-1]["value"]["list_complete"]
