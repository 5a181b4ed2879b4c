"""Random sequences of operations on R2, hostile ones among them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.parity.calls import NAN, blob, call, chain, headers, number, octets, stream
from tests.parity.generated import NUMBERS, OPERATIONS, TEXT, Generated, check, latest, options
from tests.parity.sides import Parity

POOL = ["a", "b", "a/b", "a/b/c", "a/c", "A", "é", "\U0001f600", "\uffff", "%2F", "a%", "_", "", "x" * 1024, "10"]

keys = st.one_of(st.sampled_from(POOL), st.sampled_from(POOL), TEXT, st.sampled_from(["x" * 1025, "é" * 513, 5]))
contents = st.one_of(TEXT.map(str.encode), st.binary(max_size=40), st.just(b"0123456789" * 30))


def dates(*ahead: int) -> st.SearchStrategy[Any]:
    return st.sampled_from(ahead).map(lambda seconds: {"$date": {"$ahead_ms": seconds}})


TOO_MUCH = {"k": "v" * 9000}

names = TEXT.filter(lambda name: not name.startswith("$") and name != "__proto__")
custom_metadata = st.one_of(
    st.dictionaries(names, st.one_of(TEXT, NUMBERS, st.booleans()), max_size=3),
    st.sampled_from([TOO_MUCH, "x", 5]),
)
header_text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=10).map(str.strip)
http_metadata = st.one_of(
    options(
        contentType=TEXT,
        contentLanguage=header_text,
        cacheControl=st.one_of(header_text, NUMBERS),
        cacheExpiry=st.one_of(dates(-1000, 0, 1000), st.sampled_from([0, 1700000000123, "soon", NAN])),
    ),
    st.tuples(header_text, header_text).map(
        lambda pair: headers(("Content-Type", pair[0]), ("Cache-Control", pair[1]))
    ),
)
etags = st.one_of(latest("put", "etag"), st.sampled_from(["*", "x", "", '"x"', "d41d8cd98f00b204e9800998ecf8427e"]))
etag_lists = st.lists(st.sampled_from(['"x"', "*", 'W/"y"', ",", " ", "W", '"', "z"]), max_size=4).map("".join)
conditions = st.one_of(
    options(
        etagMatches=etags,
        etagDoesNotMatch=etags,
        uploadedBefore=dates(-10_000, 10_000),
        uploadedAfter=dates(-10_000, 10_000),
        secondsGranularity=st.booleans(),
    ),
    st.tuples(st.sampled_from(["If-Match", "If-None-Match"]), etag_lists).map(lambda pair: headers(pair)),
)
storage = options(
    customMetadata=custom_metadata,
    httpMetadata=http_metadata,
    storageClass=st.sampled_from(["Standard", "InfrequentAccess"]),
)


@st.composite
def puts(draw: st.DrawFn) -> Sequence[Generated]:
    content = draw(contents)
    given = draw(storage)
    if draw(st.integers(0, 3)) == 0:
        given["onlyIf"] = draw(conditions)
    for name in draw(st.lists(st.sampled_from(["md5", "sha1", "sha256", "sha384", "sha512"]), max_size=1)):
        digest = hashlib.new(name, draw(st.sampled_from([content, content, content, b"other"]))).digest()
        given[name] = draw(st.sampled_from([digest.hex(), digest.hex().upper(), octets(digest), digest.hex()[1:]]))
    value = draw(st.sampled_from([octets, stream, blob]))(content)
    refused = draw(st.sampled_from([None, None, None, None, None, None, None, 5, [1]]))
    return [Generated(call("put", draw(keys), value if refused is None else refused, given), "put")]


positions = st.one_of(
    st.integers(0, 12), st.integers(0, 320), st.sampled_from([-1, 0.5, NAN, number("Infinity"), 2**53, "3", "x"])
)
range_headers = st.one_of(
    st.tuples(st.integers(0, 320), st.integers(0, 320)).map(lambda pair: f"bytes={pair[0]}-{pair[1]}"),
    st.text("bytes=-0123, ", max_size=12).map(lambda text: f"bytes={text}"),
)
ranges = st.one_of(
    options(offset=positions, length=positions),
    options(suffix=positions),
    options(offset=positions, length=positions, suffix=positions),
    range_headers.map(lambda text: headers(("Range", text))),
)
get_options = options(range=ranges, onlyIf=conditions)
WAYS: list[list[list[str]]] = [[], [], [["arrayBuffer"]], [["text"]], [["json"]], [["blob"], ["text"]], [[".body"]]]
gets = st.tuples(keys, get_options, st.sampled_from(WAYS)).map(
    lambda given: [Generated(chain(["get", given[0], given[1]], *given[2]))]
)

limits = st.sampled_from([1, 2, 3, 5, 1000, 1001, 0, -1, 2.7, "3", NAN])
# Miniflare finds nothing for a prefix with a NUL.
prefixes = st.one_of(st.sampled_from(["", "a", "a/", "é", "%"]), TEXT.map(lambda text: text[:2].replace("\0", "")))
includes = st.lists(st.sampled_from(["httpMetadata", "customMetadata"]), max_size=2)
lists = options(
    prefix=prefixes, limit=limits, startAfter=st.sampled_from(["", "a", "a/b", "é", "zz"]), include=includes,
    cursor=latest("list", "cursor"),
).map(lambda given: [Generated(call("list", given), "list")])  # fmt: skip


@st.composite
def delimited(draw: st.DrawFn) -> Sequence[Generated]:
    """Two pages with a delimiter, one right after the other: see the differences in docs/bindings.md."""
    delimiters = st.sampled_from(["/", "b", "/b", "", "é"])
    given = draw(st.fixed_dictionaries({"delimiter": delimiters, "prefix": prefixes, "limit": st.integers(1, 4)}))
    cursor = {"cursor": {"$latest": ["delimited", 0, "cursor"]}}
    return [Generated(call("list", given), "delimited"), Generated(call("list", {**given, **cursor}), "delimited")]


@st.composite
def uploads(draw: st.DrawFn) -> Sequence[Generated]:
    """Some steps of an upload; later ones may go on with it."""
    step = draw(st.sampled_from(["create", "part", "part", "complete", "abort", "resume"]))
    upload = {"$latest": ["upload", draw(st.integers(0, 1))]}
    if step == "create":
        # Miniflare takes any size of metadata here.
        given = draw(storage.filter(lambda given: given.get("customMetadata") != TOO_MUCH))
        return [Generated(call("createMultipartUpload", draw(keys), given), "upload")]
    if step == "resume":
        ids = st.one_of(latest("upload", "uploadId"), st.sampled_from(["", "x"]))
        return [Generated(call("resumeMultipartUpload", draw(keys), draw(ids)), "upload")]
    if step == "abort":
        return [Generated({"on": upload, "calls": [["abort"]]})]
    if step == "part":
        part = [draw(st.sampled_from([1, 1, 2, 0, 10001, "3"])), octets(draw(contents))]
        return [Generated({"on": upload, "calls": [["uploadPart", *part]]}, "part")]
    etag = {"$latest": ["part", draw(st.integers(0, 1)), "etag"]}
    part_number = {"$latest": ["part", draw(st.integers(0, 1)), "partNumber"]}
    named = st.sampled_from([[], [{"partNumber": part_number, "etag": etag}], [{"partNumber": 1, "etag": "x"}]])
    return [Generated({"on": upload, "calls": [["complete", draw(named)]]}, "put")]


heads = keys.map(lambda key: [Generated(call("head", key))])
deletes = st.one_of(keys, st.lists(keys, max_size=4)).map(lambda given: [Generated(call("delete", given))])
operations = st.one_of(puts(), puts(), puts(), gets, gets, heads, lists, delimited(), deletes, uploads(), uploads())


@pytest.mark.timeout(3600)
def test_random_sequences(r2: Parity) -> None:
    assert check(r2, operations) >= OPERATIONS
