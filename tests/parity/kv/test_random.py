"""Random sequences of operations on KV, hostile ones among them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.parity.calls import NAN, Operation, call, number, octets, stream
from tests.parity.generated import JSON, NUMBERS, OPERATIONS, TEXT, Generated, check, latest, options
from tests.parity.sides import Parity

POOL = ["a", "b", "a/b", "a/b/c", "A", "é", "\U0001f600", "\uffff", "%2F", "a%", "_", "x" * 512, "constructor"]
REFUSED = ["", ".", "..", "x" * 513, "é" * 257]


def _is_index(key: str) -> bool:
    """Whether JavaScript takes a name for an index: Miniflare drops such keys from its answer for several keys."""
    return key.isascii() and key.isdecimal()


names = st.one_of(st.sampled_from(POOL), st.sampled_from(POOL), TEXT.filter(lambda key: not _is_index(key)))
keys = st.one_of(names, names, names, st.sampled_from(REFUSED))
values = st.one_of(
    TEXT,
    JSON.map(json.dumps),
    st.binary(max_size=20).map(octets),
    st.binary(max_size=20).map(stream),
    st.one_of(NUMBERS, st.booleans(), st.none()),
    st.sampled_from([{"a": 1}, [1], NAN, number("-Infinity"), {"$repeat": ["é", 600]}, {"$fill": [255, 3000]}]),
)
seconds = st.sampled_from([0, -1, 59, 60, 60.9, 3600, "61", "x", NAN, 2**31, True])
moments = st.sampled_from([-100, 5, 30, 100, 3600, 10**9]).map(lambda ahead: {"$ahead": ahead})
put_options = options(
    metadata=st.one_of(JSON, st.sampled_from([NAN, "x" * 1022, "x" * 1023])),
    expirationTtl=seconds,
    expiration=st.one_of(moments, moments, st.sampled_from([1, 2**31, NAN])),
)
types = st.sampled_from(["text", "json", "arrayBuffer", "stream", "bogus", ""])
ttls = st.sampled_from([10, 30, 60, NAN, 2**31, "40"])
get_options = st.one_of(types, options(type=types, cacheTtl=ttls))
several = st.lists(keys, max_size=5)
# Miniflare finds nothing for a prefix with a NUL.
prefixes = st.one_of(st.sampled_from(["", "a", "a/", "A", "é", "%", "x" * 512, "x" * 513]), TEXT.map(lambda t: t[:2]))
list_options = options(
    prefix=prefixes.filter(lambda prefix: "\0" not in prefix),
    limit=st.sampled_from([1, 2, 3, 5, 1000, 1001, 0, -1, 2.7, "3", NAN]),
    cursor=latest("list", "cursor"),
)


def one(method: str, *arguments: st.SearchStrategy[Any], kind: str = "") -> st.SearchStrategy[Sequence[Generated]]:
    def made(given: tuple[Any, ...]) -> Sequence[Generated]:
        operation: Operation = call(method, *given)
        return [Generated(operation, kind)]

    return st.tuples(*arguments).map(made)


puts = one("put", keys, values, put_options)
operations = st.one_of(
    puts,
    puts,
    one("put", keys, values),
    one("get", keys, get_options),
    one("getWithMetadata", keys, get_options),
    one("get", several, st.one_of(types, options(type=types, cacheTtl=ttls))),
    one("getWithMetadata", several, options(type=types)),
    one("delete", keys),
    one("list", list_options, kind="list"),
    one("list", list_options, kind="list"),
)


@pytest.mark.timeout(3600)
def test_random_sequences(kv: Parity) -> None:
    assert check(kv, operations) >= OPERATIONS
