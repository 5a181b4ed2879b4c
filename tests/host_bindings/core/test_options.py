"""Options as JavaScript's bindings read them."""

from __future__ import annotations

import math
from functools import reduce

import pytest

from host_bindings.contract import Failure
from host_bindings.options import number_text, to_number, to_text


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (5, 5.0), (True, 1.0), ("", 0.0), (" 60 ", 60.0), ("1e2", 100.0), ("0x50", 80.0), ("0b11", 3.0), ("0o17", 15.0),
        ("-1.5", -1.5), (".5", 0.5), ("5.", 5.0), ("Infinity", math.inf), ("-Infinity", -math.inf), (10**400, math.inf),
        ("0x" + "f" * 300, math.inf),
    ],
)  # fmt: skip
def test_numbers(value: object, number: float) -> None:
    assert to_number(value) == number


@pytest.mark.parametrize("value", ["x", "1_000", "inf", "nan", "-0x5", "1e", ".", "5 5", "٣", [], {}, None])
def test_what_is_no_number(value: object) -> None:
    assert math.isnan(to_number(value))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (5, "5"), (2.0, "2"), (-0.0, "0"), (1.5, "1.5"), (1e-6, "0.000001"), (-0.000012345, "-0.000012345"), (1e-7,
        "1e-7"), (6.359727005314609e16, "63597270053146090"), (1e20, "100000000000000000000"), (1e21, "1e+21"),
        (math.nan, "NaN"), (-math.inf, "-Infinity"), (2**53 + 1, "9007199254740993"),
    ],
)  # fmt: skip
def test_numbers_as_text(number: float, text: str) -> None:
    assert number_text(number) == text


def test_other_values_as_text() -> None:
    values = [None, True, "a", [1, None, ["b"]], {}]

    assert [to_text(value) for value in values] == ["null", "true", "a", "1,,b", "[object Object]"]


def test_an_array_that_is_too_deep_to_be_text_is_refused() -> None:
    deep = reduce(lambda inner, _: [inner], range(5_000), [])

    with pytest.raises(Failure, match="nested too deep"):
        to_text(deep)
