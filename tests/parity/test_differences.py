"""What is deliberately not as in Miniflare: each line of docs/bindings.md that says so, on both sides.

If one of these fails because the sides agree now, the page has to say something else.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.calls import Operation, call, chain, date, octets
from tests.parity.d1 import run
from tests.parity.sides import Sides

HALF = "\ud800"
JSON_ERROR = "KV GET_BULK failed: 400 At least one of the requested keys corresponds to a non-json value"
UNSATISFIABLE = "get: The requested range is not satisfiable (10039)"
TOO_LARGE = "Your metadata headers exceed the maximum allowed metadata size. (10012)"
ITEM = {"value": "", "metadata": 1}
LISTED = [{"name": "b\0c"}]


def put(key: str, value: Any, **options: Any) -> Operation:
    return call("put", key, value, options)


# Operations, and what the last one gives here and there.
KV: dict[str, tuple[list[Operation], Any, Any]] = {
    "keys that look like an index": (
        [put("10", "x"), call("get", ["10", "a"])],
        *({"10": "x", "a": None}, {"a": None}),
    ),
    "metadata of empty values": ([put("a", "", metadata=1), call("getWithMetadata", ["a"])], {"a": ITEM}, {"a": ""}),
    "byte order marks": ([put("a", "\ufeffx"), call("get", ["a"])], {"a": "\ufeffx"}, {"a": "x"}),
    "byte order marks before JSON": ([put("a", "\ufeff1"), call("get", ["a"], "json")], JSON_ERROR, {"a": 1}),
    "infinite numbers": (
        [put("a", "[1e400]"), call("get", ["a"], "json")],
        *({"a": [{"$number": "Infinity"}]}, {"a": [None]}),
    ),
    "long numbers": ([put("a", str(2**53 + 1)), call("get", "a", "json")], 2**53 + 1, 2**53),
    "halves of surrogate pairs": (
        [put("a", HALF), call("get", "a", "arrayBuffer")],
        *(octets("\ufffd".encode()), octets(HALF.encode("utf-8", "surrogatepass"))),
    ),
    "the type bytes": (
        [put("a", "x"), call("get", "a", "bytes")],
        *(octets(b"x"), 'Unknown response type. Possible types are "text", "arrayBuffer", "json", and "stream".'),
    ),
    "None is no option": (
        [put("a", "x", expirationTtl=None), call("get", "a", {"cacheTtl": None})],
        *("x", "KV GET failed: 400 Invalid cache_ttl of 0. Cache TTL must be at least 30."),
    ),
    "a prefix with a NUL": (
        [put("b\0c", ""), chain(["list", {"prefix": "b\0"}], [".keys"])],
        *(LISTED, []),
    ),
}
R2: dict[str, tuple[list[Operation], Any, Any]] = {
    "a length from the end on": (
        [put("a", "x"), call("get", "a", {"range": {"offset": 1, "length": 1}})],
        *(UNSATISFIABLE, "get: Unspecified error (0)"),
    ),
    "2 to 8 KiB of metadata": (
        [put("a", "x", customMetadata={"k": "v" * 8191}), chain(["head", "a"], [".size"])],
        *(1, None),
    ),
    "metadata of an upload": (
        [chain(["createMultipartUpload", "a", {"customMetadata": {"k": "v" * 9000}}], [".key"])],
        *(f"createMultipartUpload: {TOO_LARGE}", "a"),
    ),
    "storage classes": ([put("a", "x"), chain(["head", "a"], [".storageClass"])], "Standard", ""),
    "unknown storage classes": (
        [chain(["put", "a", "x", {"storageClass": "Cold"}], [".key"])],
        *("Unsupported storageClass. Possible values are Standard and InfrequentAccess.", "a"),
    ),
    "keys of one's own": (
        [chain(["put", "a", "x", {"ssecKey": "0" * 64}], [".key"])],
        *("ssecKey is not supported here: objects cannot be encrypted with a key of your own.", "a"),
    ),
    "times as text": (
        [put("a", "x"), chain(["get", "a", {"onlyIf": {"uploadedAfter": "2020-01-01T00:00:00Z"}}], ["text"])],
        *(
            "x",
            "Incorrect type for the 'uploadedAfter' field on 'Conditional': the provided value is not of type 'date'.",
        ),
    ),
    "times before 1970": (
        [put("a", "x"), chain(["get", "a", {"onlyIf": {"uploadedBefore": date(-1)}}], [".bodyUsed"])],
        *(None, False),
    ),
    "more than a thousand keys": (
        [call("delete", ["a"] * 1001)],
        *("At most 1000 keys can be deleted at once.", None),
    ),
}


def outcome(result: dict[str, Any]) -> Any:
    return result.get("error", result.get("value"))


@pytest.mark.parametrize("name", KV)
def test_kv(sides: Sides, name: str) -> None:
    operations, here, there = KV[name]

    ours, theirs = sides.parity("kv").both(operations)

    assert (outcome(ours[-1]), outcome(theirs[-1])) == (here, there)


@pytest.mark.parametrize("name", R2)
def test_r2(sides: Sides, name: str) -> None:
    operations, here, there = R2[name]

    ours, theirs = sides.parity("r2").both(operations)

    assert (outcome(ours[-1]), outcome(theirs[-1])) == (here, there)


def test_white_space_around_metadata_does_not_get_into_headers(sides: Sides) -> None:
    operations = [put("a", "x", httpMetadata={"contentType": " a/b\n"}), call("head", "a")]

    ours, theirs = sides.parity("r2").both(operations)

    types = [outcome(results[-1])["headers"]["content-type"] for results in (ours, theirs)]
    assert types == ["a/b", " a/b\n"]


def test_strict_tables_check_generated_columns(sides: Sides) -> None:
    operations = [run("CREATE TABLE t (id INT, b BLOB AS (1 + 1)) STRICT"), run("INSERT INTO t (id) VALUES (1)")]

    ours, theirs = sides.parity("d1").both(operations)

    assert "cannot store INT value in BLOB column t.b" in outcome(ours[-1])
    assert outcome(theirs[-1])["success"]
