"""Objects: keys, contents, metadata, checksums."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.parity.calls import NAN, blob, buffer, call, chain, date, headers, octets, on, stream
from tests.parity.sides import Parity

KEYS: list[Any] = [
    "a", "", ".", "..", "a/b", "//", "é", "e\u0301", "\U0001f600", "\x00", "x" * 1024, "x" * 1025, "é" * 512, "é" * 513,
    5, 5.5, None, True, "__proto__", "\r\n",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=lambda key: repr(key)[:20])
def test_a_key(r2: Parity, key: Any) -> None:
    reads = [call("head", key), call("get", key), chain(["get", key], ["text"])]

    r2([*reads, call("put", key, "value"), *reads, call("list"), call("delete", key), *reads, call("delete", [key])])


VALUES: list[Any] = [
    "", "text", "\ufefftext", "é\U0001f600\x00", 5, 5.5, True, None, {"a": 1}, [1], [], octets(b""),
    octets(b"\x00\xff"), buffer(b"\x00\x01\xff"), stream(b"\x00\x01\xff"), stream(b""), date(5), blob(b"\x00\x01",
    "a/b"), '{"a":[1]}', "NaN",
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:24])
def test_a_content_read_in_every_way(r2: Parity, value: Any) -> None:
    ways = [chain(["get", "key"], [way]) for way in ("text", "json", "arrayBuffer", "bytes", ".body")]

    r2(
        [
            call("put", "key", value),
            *(call("head", "key"), call("get", "key"), call("list")),
            *(*ways, chain(["get", "key"], ["blob"], ["text"])),
        ]
    )


def test_a_body_is_read_once(r2: Parity) -> None:
    reads = [on(1, way) for way in ("text", "json", "arrayBuffer", "bytes", "blob")]

    results = r2([call("put", "key", "1"), call("get", "key"), on(1, ".bodyUsed"), *reads, on(1, ".bodyUsed")])

    used = "Body has already been used. It can only be used once. Use tee() first if you need to read it twice."
    assert results[3] == {"value": "1"}
    assert results[4:8] == [{"error": used, "type": "TypeError"}] * 4


def test_a_put_replaces_all_of_an_object(r2: Parity) -> None:
    r2(
        [
            call("put", "key", "old", {"customMetadata": {"a": "b"}, "httpMetadata": {"contentType": "a/b"}}),
            call("put", "key", "new"),
            call("head", "key"),
        ]
    )


DIGESTS = {name: hashlib.new(name, b"hello").digest() for name in ("md5", "sha1", "sha256", "sha384", "sha512")}


@pytest.mark.parametrize("name", DIGESTS)
def test_checksums(r2: Parity, name: str) -> None:
    digest = DIGESTS[name]
    text = digest.hex()
    wrong = bytes(len(digest))
    right = [text, text.upper(), octets(digest), buffer(digest)]
    refused = [
        text[:-2],
        text + "00",
        text[:-2] + "zz",
        "",
        wrong.hex(),
        octets(wrong),
        octets(b"ab"),
        octets(b""),
        5,
        [1],
    ]

    results = r2([*(call("put", "key", "hello", {name: given}) for given in [*right, *refused]), call("head", "key")])

    assert ["value" in result for result in results] == [True] * 4 + [False] * 10 + [True]
    assert results[-1]["value"]["checksumsJson"] == {"md5": DIGESTS["md5"].hex(), name: text}


def test_only_one_checksum_is_taken(r2: Parity) -> None:
    both = {"md5": DIGESTS["md5"].hex(), "sha1": DIGESTS["sha1"].hex()}

    r2([call("put", "key", "hello", both), call("head", "key")])


CUSTOM_METADATA: list[Any] = [
    {}, {"a": "b"}, {"A": "b", "a": "c"}, {"k": 5, "b": True, "n": None, "f": 1.5, "l": [1, 2], "d": {}}, {"": ""},
    {"é": "\U0001f600"}, {"created_at": "x"}, "x", 5, [], ["a"], {"k": "v" * 2047}, {"k": "é" * 2047},
    {"k": "ā" * 1023}, {"a\x00": "\x00"}, {"k": 1e21, "l": 1e-7}, {"k": "v" * 9000}, {"k": "ā" * 4200},
]  # fmt: skip


@pytest.mark.parametrize("metadata", CUSTOM_METADATA, ids=lambda value: repr(value)[:24])
def test_custom_metadata(r2: Parity, metadata: Any) -> None:
    listed = call("list", {"include": ["customMetadata"]})

    r2([call("put", "key", "", {"customMetadata": metadata}), call("head", "key"), call("get", "key"), listed])


ALL_FIELDS = {
    "contentType": "text/html; charset=utf-8",
    "contentLanguage": "en",
    "contentDisposition": 'attachment; filename="a"',
    "contentEncoding": "gzip",
    "cacheControl": "no-store",
    "cacheExpiry": date(1700000000123),
}
HTTP_METADATA: list[Any] = [
    {}, ALL_FIELDS, {"contentType": ""}, {"contentType": 5, "other": 1}, {"cacheExpiry": 1700000000123},
    {"cacheExpiry": "soon"}, {"cacheExpiry": date(0)}, {"cacheExpiry": NAN}, {"contentType": "é\u20ac"}, "x", 5,
    headers(), headers(("Content-Type", "a/b"), ("Expires", "Wed, 21 Oct 2015 07:28:00 GMT"), ("X", "y")),
    headers(("Cache-Control", "a"), ("cache-control", "b"), ("Content-Language", "de"), ("Content-Encoding", "br")),
]  # fmt: skip


@pytest.mark.parametrize("metadata", HTTP_METADATA, ids=lambda value: repr(value)[:30])
def test_http_metadata(r2: Parity, metadata: Any) -> None:
    r2(
        [
            call("put", "key", "", {"httpMetadata": metadata}),
            *(call("head", "key"), chain(["get", "key"], ["blob"], [".type"])),
            *(call("list", {"include": ["httpMetadata"]}), call("list")),
            call("createMultipartUpload", "key", {"httpMetadata": metadata}),
        ]
    )


def test_which_refusal_comes_first(r2: Parity) -> None:
    md5 = DIGESTS["md5"].hex()
    too_much = {"k": "v" * 9000}

    r2(
        [
            call("put", "x" * 1025, "v", {"customMetadata": too_much}),
            call("put", "x" * 1025, "v", {"md5": md5}),
            call("put", "b", "v", {"md5": md5, "customMetadata": too_much}),
            call("put", "b", "v", {"md5": md5, "onlyIf": {"etagMatches": "x"}}),
            call("put", "b", "v", {"md5": "x", "onlyIf": {"etagMatches": '"x"'}}),
            call("put", "x" * 1025, 5, {"onlyIf": {"etagMatches": "x"}}),
        ]
    )


@pytest.mark.parametrize("keys", [[], ["a"], ["b", "none", "a"], ["x" * 1025, "a"], [5, None], "none", None, 5])
def test_deleting(r2: Parity, keys: Any) -> None:
    r2([*(call("put", key, "") for key in ("a", "b", "5", "null")), call("delete", keys), call("list")])
