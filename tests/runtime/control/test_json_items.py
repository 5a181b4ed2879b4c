"""An array of JSON that comes in pieces is cut into its items, wherever the pieces end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.control.json_items import MARKS_MAX, JsonItems

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(['"', "\\", '\\"', "],[", "é"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def items_of(text: bytes, piece: int) -> list[bytes]:
    items = JsonItems()
    found = [item for start in range(0, len(text), piece) for item in items.feed(text[start : start + piece])]
    items.finish()
    return found


@given(st.lists(VALUES), st.integers(1, 40), st.booleans(), st.sampled_from([None, 1]))
def test_the_items_are_those_of_the_array(array: list[Any], piece: int, ascii: bool, indent: int | None) -> None:
    text = json.dumps(array, ensure_ascii=ascii, indent=indent).encode()

    assert [json.loads(item) for item in items_of(b" " + text + b"\n", piece)] == array


@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:\\ 1a', max_size=60).map(str.encode), st.integers(1, 20))
def test_whatever_is_no_array_of_json_is_refused_here_or_as_an_item(text: bytes, piece: int) -> None:
    try:
        wanted = json.loads(text)
    except ValueError:
        wanted = None

    try:
        found = [json.loads(item) for item in items_of(text, piece)]
    except ValueError:
        found = None

    assert found == (wanted if isinstance(wanted, list) else None)


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'"a"', b"1", b"[1", b'["a', b"[1]]", b"[1] x", b"x[1]", b"[]{}", b"[}", b"[1}"]
)
def test_what_is_no_array_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="array"):
        items_of(text, 3)


def test_an_item_of_very_many_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="too many parts"):
        items_of(b"[" * (MARKS_MAX + 2), 1000)
