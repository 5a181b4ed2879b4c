"""Forms and files, read from bodies and written to them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_bindings.body import BytesBody
from workers import Blob, File, FormData, ReadableStream, Request
from workers.content import Raw

# Not "%": as browsers do, quotes and line breaks in names are written as %22, %0D and %0A.
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="%"))
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def read(content_type: str, raw: Raw) -> Any:
    request = Request.from_parts("POST", "http://a/", f"content-type: {content_type}\n", raw)
    return asyncio.run(request.form_data())


@pytest.mark.parametrize("raw", ["a=1&b=%C3%BC+x&a=2&c=", b"a=1&b=%C3%BC+x&a=2&c="])
def test_urlencoded_forms(raw: Raw) -> None:
    form = read("application/x-www-form-urlencoded; charset=utf-8", raw)

    assert form.get_all("a") == ["1", "2"]
    assert (form["b"], form["c"]) == ("ü x", "")


def test_multipart_forms() -> None:
    body = (
        '--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nü\r\n'
        '--x\r\nContent-Disposition: form-data; name="f"; filename="n.txt"\r\nContent-Type: text/plain\r\n\r\n'
    ).encode() + b"\xff\r\n--x--\r\n"

    form = read("multipart/form-data; boundary=x", BytesBody(body))

    assert form.keys() == ["a", "f"]
    assert form["a"] == "ü"
    assert isinstance(form["f"], File)
    assert (form["f"].name, form["f"].type, form["f"].size) == ("n.txt", "text/plain", 1)


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json", "multipart/form-data"])
def test_a_body_of_another_type_is_no_form(content_type: str) -> None:
    with pytest.raises((TypeError, ValueError), match="form"):
        read(content_type, "a=1")


@pytest.mark.parametrize(
    "body", ["", "nonsense", "--x\r\n", '--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1']
)
def test_a_broken_form_is_a_value_error(body: str) -> None:
    with pytest.raises(ValueError, match="not valid"):
        read("multipart/form-data; boundary=x", body)


def test_a_form_of_too_many_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="fields"):
        read("application/x-www-form-urlencoded", "a=1&" * 2000)


@given(st.lists(st.tuples(NAMES, TEXT | st.binary())))
def test_what_is_written_can_be_read(fields: list[tuple[str, str | bytes]]) -> None:
    form = FormData()
    for name, value in fields:
        form.append(name, value)
    body, content_type = form.encode()

    async def main() -> list[tuple[str, str | bytes]]:
        back = await Request.from_parts("POST", "http://a/", f"content-type: {content_type}\n", body).form_data()
        return [(name, value if isinstance(value, str) else await value.bytes()) for name, value in back.items()]

    assert asyncio.run(main()) == fields or not fields


def test_a_file_name_cannot_break_out_of_its_header() -> None:
    form = FormData()
    form.append("f", b"x", 'a"; name="other\r\nX: y')

    body, _ = form.encode()

    assert b"\r\nX: y" not in body
    assert b'filename="a%22; name=%22other%0D%0AX: y"' in body


def test_a_file_type_cannot_break_out_of_its_header() -> None:
    form = FormData()
    form.append("f", File(b"x", "a", "text/plain\r\nX: y"))

    assert b"\r\nX: y" not in form.encode()[0]


def test_get_set_delete() -> None:
    form = FormData([("a", "1"), ("a", "2")])

    form["b"] = 3
    assert (form.get("a"), form["b"], form.get("c")) == ("1", "3", None)
    form.set("a", "4")
    del form["b"]
    assert list(form.items()) == [("a", "4")]
    assert "a" in form
    assert "b" not in form
    with pytest.raises(KeyError):
        form["b"]


def test_a_blob_can_be_read_any_number_of_times() -> None:
    blob = Blob(["a", b"b", Blob("c")], type="a/b")

    async def main() -> list[object]:
        return [await blob.bytes(), await blob.text(), await blob.stream().read()]

    assert asyncio.run(main()) == [b"abc", "abc", b"abc"]
    assert (blob.size, blob.type, blob.content_type) == (3, "a/b", "a/b")


def test_a_file_may_be_somewhere_else() -> None:
    file = File(ReadableStream(BytesBody(b"abc")), "a.txt", "text/plain")

    assert (file.name, file.size) == ("a.txt", 3)
    assert asyncio.run(file.bytes()) == b"abc"
