"""Multipart uploads."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.calls import NAN, Operation, blob, call, chain, filled, octets, on, result, stream
from tests.parity.sides import Parity

MIN = 5 * 1024 * 1024
CREATE = call("createMultipartUpload", "key")
READ = [call("head", "key"), call("list"), chain(["get", "key"], ["arrayBuffer"])]


def test_an_upload(r2: Parity) -> None:
    options = {"customMetadata": {"a": 5}, "httpMetadata": {"contentType": "a/b"}, "storageClass": "Standard"}
    parts = [on(0, "uploadPart", number, content) for number, content in ((7, "end"), (2, filled(65, MIN)))]
    across = {"range": {"offset": MIN - 2, "length": 4}}

    results = r2(
        [
            call("createMultipartUpload", "key", options),
            *parts,
            *READ,
            on(0, "complete", [result(2), result(1)]),
            *READ,
            chain(["get", "key", across], ["text"]),
            call("list", {"include": ["customMetadata", "httpMetadata"]}),
            *(on(0, "complete", [result(1)]), on(0, "uploadPart", 1, "x"), on(0, "abort")),
            *READ,
            *(call("put", "key", "after"), *READ),
        ]
    )

    assert results[6]["value"]["etag"].endswith("-2") and results[10] == {"value": "AAen"}


NUMBERS: list[Any] = [0, -1, 1, 10000, 10001, 1.9, "2", "x", None, 2**31, -(2**31) - 1, NAN, True, 1e300]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_part_number(r2: Parity, number: Any) -> None:
    r2([CREATE, on(0, "uploadPart", number, "x"), on(0, "complete", [{"partNumber": number, "etag": "x"}])])


@pytest.mark.parametrize("value", [None, 5, {"a": 1}, [1]], ids=repr)
def test_what_cannot_be_a_part(r2: Parity, value: Any) -> None:
    r2([CREATE, on(0, "uploadPart", 1, value), on(0, "complete", []), *READ])


VALUES: list[Any] = ["", "é", octets(b"\x00"), stream(b"\x00\x01"), stream(b""), blob(b"x", "a/b")]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_parts_content(r2: Parity, value: Any) -> None:
    r2([CREATE, on(0, "uploadPart", 1, value), on(0, "complete", [result(1)]), *READ])


PARTS: list[Any] = [
    [], None, "x", 5, [{"partNumber": 1}], [{"etag": "x"}], [{"partNumber": 1, "etag": "x"}], [5], ["x"], {"a": 1},
    [{"partNumber": "1", "etag": 5}], [{"partNumber": 0, "etag": "x"}], [{"partNumber": 99999, "etag": "x"}], [{}],
]  # fmt: skip


@pytest.mark.parametrize("parts", PARTS, ids=repr)
def test_lists_of_parts(r2: Parity, parts: Any) -> None:
    r2([CREATE, on(0, "uploadPart", 1, "abc"), on(0, "complete", parts), *READ, on(0, "abort")])


SIZES = [
    ([10], None), ([0], None), ([10, MIN], None), ([MIN, 10, MIN], None), ([MIN, MIN + 1], None), ([MIN, MIN], None),
    ([MIN - 1, 10], None), ([MIN + 1, MIN, 10], None), ([MIN, MIN + 1, 3], None), ([10, MIN], [1, 0]), ([MIN, 0], None),
    ([MIN, 10], [1, 0]), ([MIN, MIN, 10], [2, 1, 0]), ([MIN, MIN, 10], [0, 2]), ([10, 10], [1]),
]  # fmt: skip


@pytest.mark.parametrize(("sizes", "order"), SIZES)
def test_sizes_of_parts(r2: Parity, sizes: list[int], order: list[int] | None) -> None:
    uploads = [on(0, "uploadPart", n + 1, filled(65 + n, size)) for n, size in enumerate(sizes)]
    named = [result(n + 1) for n in (order or range(len(sizes)))]

    r2([CREATE, *uploads, on(0, "complete", named), *READ, on(0, "abort")])


def test_a_part_is_replaced(r2: Parity) -> None:
    uploads = [on(0, "uploadPart", 1, content) for content in ("a", "b")]

    results = r2(
        [
            CREATE,
            *uploads,
            on(0, "complete", [result(1)]),
            on(0, "complete", [result(2), result(2)]),
            on(0, "complete", [result(2)]),
            *READ,
        ]
    )

    assert "error" in results[3] and "error" in results[4] and "value" in results[5]


def uses(key: Any, upload: Any) -> list[Operation]:
    parts = [[], [{"partNumber": 1, "etag": "x"}]]
    resumed = {"on": {"$result": [2]}}
    return [
        *(CREATE, on(0, "uploadPart", 1, "x")),
        call("resumeMultipartUpload", key, upload),
        {**resumed, "calls": [["uploadPart", 1, "a"]]},
        *({**resumed, "calls": [["complete", each]]} for each in parts),
        *({**resumed, "calls": [["abort"]]} for _ in range(2)),
        on(0, "complete", [result(1)]),
        *READ,
    ]


@pytest.mark.parametrize("key", ["key", "other", "x" * 1025, 5, None])
@pytest.mark.parametrize("upload", ["nope", "", 5, None, result(0, "uploadId")], ids=repr)
def test_an_upload_that_is_resumed(r2: Parity, key: Any, upload: Any) -> None:
    r2(uses(key, upload))


def test_an_upload_that_is_aborted(r2: Parity) -> None:
    r2(
        [
            *(CREATE, on(0, "uploadPart", 1, "x")),
            call("resumeMultipartUpload", "key", result(0, "uploadId")),
            *(on(2, "abort"), on(2, "abort"), on(0, "complete", [result(1)]), on(0, "uploadPart", 1, "x"), *READ),
        ]
    )


def test_deleting_the_key_does_not_end_an_upload(r2: Parity) -> None:
    r2([CREATE, on(0, "uploadPart", 1, "x"), call("delete", "key"), on(0, "complete", [result(1)]), *READ])


def test_two_uploads_of_one_key(r2: Parity) -> None:
    parts = [on(n, "uploadPart", 1, f"part of {n}") for n in (0, 1)]
    foreign = on(0, "complete", [result(3)])

    r2([CREATE, CREATE, *parts, foreign, *(on(n, "complete", [result(n + 2)]) for n in (1, 0)), *READ])


@pytest.mark.parametrize(
    ("key", "options"),
    [("x" * 1025, None), ("", None), (5, None), (None, {}), ("a", {"customMetadata": {"n": None}}), ("a", "x")],
)
def test_creating(r2: Parity, key: Any, options: Any) -> None:
    r2([call("createMultipartUpload", key, options), on(0, "uploadPart", 1, "x"), on(0, "complete", [result(1)])])
