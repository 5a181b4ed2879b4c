"""Forms that the operator's code reads on the host."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from host_bindings.body import Body, BytesBody, Payload
from runtime.dispatcher import forms
from runtime.dispatcher.forms import FilePart, Form, FormError, read_form

MULTIPART = 'multipart/form-data; boundary="cut"'


def part(disposition: str, content: bytes, content_type: str | None = None) -> bytes:
    head = f"Content-Disposition: form-data; {disposition}\r\n"
    if content_type is not None:
        head += f"Content-Type: {content_type}\r\n"
    return b"--cut\r\n" + head.encode() + b"\r\n" + content + b"\r\n"


def multipart(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--cut--\r\n"


class Dribble(BytesBody):
    """A body that comes in small pieces."""

    async def read(self, limit: int) -> bytes:
        return await super().read(min(limit, 7))


def read(body: Payload, directory: Path, content_type: str = MULTIPART) -> Form:
    return asyncio.run(read_form(content_type, body, directory))


def content(part: object) -> bytes:
    assert isinstance(part, FilePart)
    return asyncio.run(part.body().read_all(10_000_000))


@pytest.mark.parametrize("body_type", [BytesBody, Dribble])
def test_fields_and_files_keep_their_order_names_and_types(body_type: type[BytesBody], tmp_path: Path) -> None:
    data = multipart(
        part('name="key"', "über".encode()),
        part('name="file"; filename="a b.txt"', b"hello\r\n--cu", "text/plain; charset=utf-8"),
        part('name="key"', b""),
        part('name="file"; filename=""', b""),
    )

    form = read(body_type(data), tmp_path)

    assert [name for name, _ in form] == ["key", "file", "key", "file"]
    assert (form[0][1], form[2][1]) == ("über", "")
    file = form[1][1]
    assert isinstance(file, FilePart)
    assert (file.filename, file.content_type, file.size) == ("a b.txt", "text/plain; charset=utf-8", 11)
    assert content(file) == b"hello\r\n--cu"


@pytest.mark.parametrize("size", [forms.FILE_IN_MEMORY_BYTES_MAX, forms.FILE_IN_MEMORY_BYTES_MAX + 1, 3_000_000])
def test_a_file_can_be_read_more_than_once_and_leaves_nothing_behind(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    descriptors = len(os.listdir("/proc/self/fd"))

    form = read(BytesBody(multipart(part('name="file"; filename="a"', data))), tmp_path)

    assert content(form[0][1]) == data
    assert content(form[0][1]) == data
    assert os.listdir(tmp_path) == []
    file = form[0][1]
    assert isinstance(file, FilePart)
    if not isinstance(file.content, bytes):
        file.content.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_form_in_a_text_payload_is_read_too(tmp_path: Path) -> None:
    assert read(multipart(part('name="a"', b"1")).decode(), tmp_path) == [("a", "1")]


def test_an_urlencoded_form_is_read(tmp_path: Path) -> None:
    assert read("a=1&b=%C3%BC&a=&c", tmp_path, "application/x-www-form-urlencoded") == [
        ("a", "1"),
        ("b", "ü"),
        ("a", ""),
        ("c", ""),
    ]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("", b""),
        ("multipart/form-data", b"--cut--\r\n"),
        (MULTIPART, b""),
        (MULTIPART, b"no form"),
        (MULTIPART, part('name="a"', b"1")),
        (MULTIPART, multipart(part('name="a"', b"1"))[:-8]),
        (MULTIPART, multipart(b"--cut\r\n\r\nno disposition\r\n")),
        (MULTIPART, multipart(part('name="a"', b"\xff"))),
        (MULTIPART, multipart(part('name="a"', b"x" * (forms.FIELD_BYTES_MAX + 1)))),
        (MULTIPART, multipart(*[part('name="a"', b"")] * (forms.PARTS_MAX + 1))),
        (MULTIPART, multipart(*[part('name="a"; filename="f"', b"x" * 65_537)] * (forms.FILES_ON_DISK_MAX + 1))),
        (MULTIPART, multipart(*[part('name="a"', b"x" * 1_000_000)] * 18)),
        ("application/x-www-form-urlencoded", b"&".join([b"a=1"] * (forms.PARTS_MAX + 1))),
        ("application/x-www-form-urlencoded", b"\xff=1"),
    ],
)
def test_what_is_no_form_or_too_much_of_one_is_refused(content_type: str, body: bytes, tmp_path: Path) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    source: Body = BytesBody(body)

    with pytest.raises(FormError):
        read(source, tmp_path, content_type)

    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors
