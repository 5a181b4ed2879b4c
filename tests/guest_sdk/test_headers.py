"""Headers: names without case, values as HTTP has them, the contract's text only on demand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers import Headers

NAMES = st.text("abcdefghijklmnopqrstuvwxyzABCDEF0123456789-_!#$%&'*+.^`|~", min_size=1, max_size=12)
VALUES = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"])).map(lambda v: v.strip(" \t"))


def test_names_have_no_case() -> None:
    headers = Headers({"Content-Type": "a/b"})

    assert headers["content-TYPE"] == headers.get("CONTENT-type") == "a/b"
    assert "Content-type" in headers


def test_a_missing_header_is_none() -> None:
    headers = Headers()

    assert headers["x"] is None
    assert headers.get("x") is None
    assert headers.get("x", "default") == "default"
    assert headers.get_all("x") is None


def test_repeated_headers_are_kept_and_joined_where_one_is_asked_for() -> None:
    headers = Headers([("accept", "a"), ("Accept", "b")])

    assert headers["accept"] == "a, b"
    assert headers.get_all("accept") == ["a", "b"]


def test_cookies_are_not_joined() -> None:
    headers = Headers([("set-cookie", "a=1"), ("x", "y"), ("set-cookie", "b=2")])

    assert list(headers.items()) == [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x", "y")]
    assert headers.get_set_cookie() == ["a=1", "b=2"]


def test_set_replaces_append_adds_delete_removes() -> None:
    headers = Headers({"a": "1"})

    headers.append("A", "2")
    headers.set("b", 3)
    headers.delete("C")
    assert headers.to_text() == "a: 1\na: 2\nb: 3\n"

    headers["a"] = "4"
    del headers["b"]
    assert headers.to_text() == "a: 4\n"


def test_a_dict_can_be_made_of_them() -> None:
    assert dict(Headers({"A": "1", "B": "2"}).items()) == {"a": "1", "b": "2"}


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\n", "a\r\nb", "ü", "a\0", "(a)"])
def test_a_name_that_http_does_not_allow_is_refused(name: str) -> None:
    with pytest.raises(TypeError):
        Headers({name: "value"})
    with pytest.raises(TypeError):
        Headers().append(name, "value")


@pytest.mark.parametrize("value", ["a\nb", "a\r\nx: y", "a\0b", "a\ud800b"])
def test_a_value_can_neither_start_another_header_nor_have_half_a_character(value: str) -> None:
    headers = Headers()

    for write in (headers.set, headers.append):
        with pytest.raises(TypeError):
            write("name", value)
    assert headers.to_text() == ""


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_text_and_back_is_the_same(pairs: list[tuple[str, str]]) -> None:
    headers = Headers(pairs)

    assert Headers.from_text(headers.to_text()).pairs() == [(name.lower(), value) for name, value in pairs]


def test_text_is_only_read_when_someone_looks() -> None:
    headers = Headers.from_text("a: 1\nb:2\n")

    assert headers.to_text() == "a: 1\nb:2\n"
    assert headers["b"] == "2"
