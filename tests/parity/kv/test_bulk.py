"""Several keys at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.calls import call, filled, octets
from tests.parity.sides import Parity

MIB = 1024 * 1024
LISTS: list[list[Any]] = [
    [], ["a"], ["a", "none"], ["a", "a", "b"], ["a"] * 100, ["a"] * 101, [f"k{n}" for n in range(101)], [""], ["."],
    ["..", "a"], ["x" * 512], ["x" * 513], ["a", ".", ""], ["a", "x" * 513], [None, True, 5.5], ["b\x00"],
    ["text", "json"], ["json", "text", ""], ["bytes"],
]  # fmt: skip
STORED = {"a": "1", "b": "2", "json": '{"x": [1, 2.5, null]}', "text": "text", "null": "null", "x" * 512: "[]"}


@pytest.mark.parametrize("keys", LISTS, ids=lambda keys: repr(keys)[:24])
def test_keys_and_types(kv: Parity, keys: list[Any]) -> None:
    operations = [call("put", key, value, {"metadata": key[:5]}) for key, value in STORED.items()]
    operations.append(call("put", "bytes", octets(b"\xff\x00")))
    for type in (None, "text", "json", "stream", "arrayBuffer", "bogus", ""):
        operations += [call(method, keys, type) for method in ("get", "getWithMetadata")]
        operations.append(call("getWithMetadata", keys, {"cacheTtl": 10, "type": type or "text"}))

    kv(operations)


def test_of_a_missing_key_there_is_no_metadata_either(kv: Parity) -> None:
    results = kv([call("put", "a", "x", {"metadata": 5}), call("getWithMetadata", ["a", "b"])])

    assert results[1]["value"] == {"a": {"value": "x", "metadata": 5}, "b": None}


def test_the_values_are_25_mib_at_most_together(kv: Parity) -> None:
    results = kv(
        [
            call("put", "a", filled(65, 25 * MIB)),
            call("put", "b", "x"),
            call("get", ["a"]),
            call("get", ["a", "b"]),
        ]
    )

    assert results[3]["error"] == "KV GET_BULK failed: 413 Total size of request exceeds the limit of 25MB"
