"""What can be stored, and how it comes back: types of values, metadata, expiry."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.parity.calls import INFINITY, NAN, UNDEFINED, blob, buffer, call, date, filled, number, octets, stream
from tests.parity.sides import Parity

MIB = 1024 * 1024
TYPES = ["text", "json", "arrayBuffer", "stream", "bogus", ""]
VALUES = {
    "empty": "",
    "text": "text",
    "unicode": "é\u20ac\U0001f600\x00",
    "byte order mark": "\ufefftext",
    "integer": 5,
    "fraction": 5.5,
    "large number": 1e21,
    "tiny number": 1e-7,
    "small number": 0.00001,
    "long number": 1e16,
    "negative zero": -0.0,
    "true": True,
    "false": False,
    "null": None,
    "not a number": NAN,
    "infinity": number("-Infinity"),
    "object": {"a": 1},
    "array": [1],
    "no bytes": octets(b""),
    "bytes": octets(b"\x00\xff\xfe"),
    "array buffer": buffer(b"\x00\x01\xff"),
    "stream": stream(b"\x00\x01\xff"),
    "empty stream": stream(b""),
    "date": date(5),
    "blob": blob(b"x", "a/b"),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_of_each_kind_read_as_each_type(kv: Parity, value: Any) -> None:
    gets = [call("get", "key", type) for type in TYPES]
    with_metadata = [call("getWithMetadata", "key", {"type": type}) for type in TYPES]

    results = kv([call("put", "key", value), call("get", "key"), *gets, *with_metadata])

    assert "error" in results[0] or "value" in results[1]


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1}', "[1,2", "NaN", "[Infinity]", "-Infinity", "1", '"x"', "true", "null", " 1 ", "1\x00",
        '{"a":1,"a":2}', "1.5e3", "[-0]", '"\\ud800"', '{"__proto__":1}', "'a'", "[1,]", "01", '"\t"', "\ufeff1",
    ],
)  # fmt: skip
def test_json(kv: Parity, text: str) -> None:
    results = kv([call("put", "key", text), call("get", "key", "json"), call("getWithMetadata", "key", "json")])

    assert results[1].get("type", "SyntaxError") == "SyntaxError"


def test_a_missing_key_is_null_whatever_the_type(kv: Parity) -> None:
    results = kv([call(method, "key", type) for method in ("get", "getWithMetadata") for type in TYPES])

    empty = {"value": None, "metadata": None, "cacheStatus": None}
    assert [each["value"] for each in results] == [None] * 6 + [empty] * 6


def test_the_third_argument_of_get_is_ignored(kv: Parity) -> None:
    results = kv([call("put", "key", "1"), call("get", "key", "json", "text"), call("get", "key", {}, "json")])

    assert [each["value"] for each in results[1:]] == [1, "1"]


METADATA = [
    None, 0, False, "", 5.5, {"a": None}, [1], NAN, {"a": INFINITY, "b": [NAN]}, "x" * 1022, "x" * 1023, "é" * 511,
    "é" * 512, {"created_at": 1, "b": {"c_d": 2}}, {}, [], 1e16, 1.0, "\U0001f600", '\n"\\', UNDEFINED, "\x7f",
    "\u2028", "\x00", {"": ""}, [[[]]], {"x": "é" * 600}, -0.0, 2**53,
]  # fmt: skip


@pytest.mark.parametrize("metadata", METADATA, ids=lambda value: repr(value)[:30])
def test_metadata(kv: Parity, metadata: Any) -> None:
    kv(
        [
            call("put", "key", "old", {"metadata": "old"}),
            call("put", "key", "new", {"metadata": metadata}),
            call("getWithMetadata", "key"),
            call("list"),
            call("getWithMetadata", ["key", "other"]),
            call("put", "key", "newest"),
            call("getWithMetadata", "key"),
            call("list"),
        ]
    )


TTLS = [0, 59, 60, 60.9, -5, NAN, "61", "x", 2**31 - 1, 2**31, -(2**31) - 1, True, 1e10, "", " 70 ", "0x50", "1e2"]


@pytest.mark.parametrize("ttl", TTLS)
def test_time_to_live(kv: Parity, ttl: Any) -> None:
    kv([call("put", "key", "value", {"expirationTtl": ttl}), call("list"), call("put", "key", "again"), call("list")])


@pytest.mark.parametrize("ahead", [-1000, 0, 1, 30, 55, 65, 100, 1000.7, "500", NAN, 2**31, 10**12])
def test_expiration(kv: Parity, ahead: Any) -> None:
    now = int(time.time())
    at = str(now + int(ahead)) if isinstance(ahead, str) else ahead if isinstance(ahead, dict) else now + ahead

    here, there = kv.both([call("put", "key", "value", {"expiration": at}), call("list")])

    # The texts name seconds of their own clocks.
    assert here == there


def test_a_time_to_live_wins_over_an_expiration(kv: Parity) -> None:
    now = int(time.time())
    results = kv(
        [
            call("put", "a", "", {"expiration": 1, "expirationTtl": 100}),
            call("put", "b", "", {"expiration": now + 500, "expirationTtl": 5}),
            call("put", "c", "", {"expiration": 2**40, "expirationTtl": 100}),
            call("put", "d", "", {"metadata": "x" * 2000, "expirationTtl": 5}),
            call("list"),
        ]
    )

    assert [key["name"] for key in results[4]["value"]["keys"]] == ["a"]


@pytest.mark.parametrize("ttl", [10, 29, 30, 29.9, -1, 0, "40", "x", NAN, 2**31])
def test_cache_ttl(kv: Parity, ttl: Any) -> None:
    kv(
        [
            call("put", "key", "value"),
            *(call("get", "key", {"cacheTtl": ttl}), call("getWithMetadata", "key", {"cacheTtl": ttl, "type": "json"})),
            *(call("get", ["key"], {"cacheTtl": ttl}), call("get", "missing", {"cacheTtl": ttl})),
        ]
    )


def test_the_largest_value_and_one_byte_more(kv: Parity) -> None:
    results = kv(
        [
            call("put", "key", filled(65, 25 * MIB)),
            *(call("get", "key"), call("get", "key", "arrayBuffer"), call("get", "key", "stream")),
            call("put", "key", filled(255, 25 * MIB + 1)),
            call("put", "key", {"$repeat": ["ab", 25 * MIB // 2 + 1]}),
        ]
    )

    assert results[4]["error"] == "KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400."
