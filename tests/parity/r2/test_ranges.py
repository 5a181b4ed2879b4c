"""Reading a part of an object."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.calls import INFINITY, NAN, Operation, call, chain, headers, number
from tests.parity.sides import Parity

PUTS = [call("put", "ten", "0123456789"), call("put", "empty", "")]
NUMBERS: list[Any] = [
    0,
    1,
    5,
    9,
    10,
    11,
    2**53,
    1e20,
    -1,
    0.5,
    -0.5,
    "3",
    "x",
    "",
    NAN,
    INFINITY,
    number("-Infinity"),
    True,
]


def both(range: Any) -> list[Operation]:
    gets = [["get", key, {"range": range}] for key in ("ten", "empty", "none")]
    return [*PUTS, *(chain(get) for get in gets), *(chain(get, ["text"]) for get in gets)]


@pytest.mark.parametrize("member", ["offset", "length", "suffix"])
@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_one_number(r2: Parity, member: str, value: Any) -> None:
    r2(both({member: value}))


@pytest.mark.parametrize("offset", [0, 3, 9, 10, 11])
@pytest.mark.parametrize("length", [0, 1, 5, 7, 100])
def test_offset_and_length(r2: Parity, offset: int, length: int) -> None:
    results = r2(both({"offset": offset, "length": length}))

    text = "0123456789"[offset : offset + length]
    assert results[5] == ({"value": text} if text else results[2])


@pytest.mark.parametrize(
    "range",
    [
        {}, "x", 5, {"suffix": 1, "offset": 1}, {"suffix": 1, "length": 1}, {"suffix": -1, "offset": -1},
        {"other": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_other_ranges(r2: Parity, range: Any) -> None:
    r2(both(range))


HEADERS = [
    "bytes=0-4", "bytes=5-", "bytes=-3", "bytes=-0", "bytes=0-0", "bytes=9-9", "bytes=10-", "bytes=9-100", "bytes=5-3",
    "bytes=0-1,3-4", "bytes=", "bytes=-", "bytes", "items=0-1", "bytes=a-b", "BYTES=0-1", " bytes = 1 - 2 ",
    "bytes=-100", "bytes=-10", "bytes=0-9", "bytes=+1-2", "bytes=1-2,", "bytes=1 -2", "bytes=1-2x", "bytes=01-02",
    "bytes=,1-2", "bytes=1-2;", "bytes=99999999999999999999999-", "bytes=0-99999999999999999999999", "",
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_a_header(r2: Parity, header: str) -> None:
    r2(both(headers(("Range", header))))


def test_no_header_and_two(r2: Parity) -> None:
    r2([*both(headers()), *both(headers(("Range", "bytes=1-2"), ("range", "bytes=3-4")))])


def test_a_condition_comes_before_a_range(r2: Parity) -> None:
    r2([*PUTS, call("get", "ten", {"range": {"offset": 100}, "onlyIf": {"etagMatches": "x"}})])
