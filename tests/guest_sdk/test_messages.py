"""Requests and responses: what their bodies may be, how they are read, and that they are read once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from http import HTTPMethod
from typing import Any

import pytest

from host_bindings.body import BytesBody
from workers import Blob, File, FormData, ReadableStream, Request, Response
from workers.content import Raw, read_bytes


def body_of(message: Request | Response) -> bytes:
    return asyncio.run(message.bytes())


async def generator() -> AsyncIterator[Any]:
    yield "a"
    yield b""
    yield bytearray(b"\xff")


def plain_generator() -> Iterator[Any]:
    yield b"a"
    yield "ü"


def test_text_has_a_content_type_and_bytes_have_none() -> None:
    assert Response("x").headers["content-type"] == "text/plain;charset=UTF-8"
    assert Response(b"x").headers["content-type"] is None
    assert Response().headers["content-type"] is None
    assert Response("x", headers={"Content-Type": "text/html"}).headers["content-type"] == "text/html"


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (None, b""),
        ("ü", "ü".encode()),
        (b"\xff", b"\xff"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (Blob(["a", b"b"]), b"ab"),
    ],
)
def test_what_a_body_may_be(body: object, content: bytes) -> None:
    assert body_of(Response(body)) == content


def test_generators_are_bodies() -> None:
    assert body_of(Response(generator())) == b"a\xff"
    assert body_of(Response(plain_generator())) == "aü".encode()


def test_streams_are_passed_on_without_being_read() -> None:
    source = BytesBody(b"content")
    request = Request.from_parts("POST", "http://a/", "", source)

    response = Response(request.body)

    assert response._take() is source
    assert request.body_used


@pytest.mark.parametrize("body", [{}, [], (), {1}, 5, 1.5])
def test_what_a_body_may_not_be(body: object) -> None:
    with pytest.raises(TypeError, match=f"Unsupported type in Response: {type(body).__name__}"):
        Response(body)


def test_a_generator_of_something_else_fails_when_it_is_read() -> None:
    with pytest.raises(TypeError):
        body_of(Response(object() for _ in range(2)))


@pytest.mark.parametrize("status", [0, 100, 199, 600, -1])
def test_a_status_is_from_200_to_599(status: int) -> None:
    with pytest.raises(ValueError, match="200 to 599"):
        Response(None, status=status)


@pytest.mark.parametrize("status", [204, 205, 304])
def test_some_statuses_have_no_body(status: int) -> None:
    assert Response(None, status=status).status == status
    with pytest.raises(TypeError, match="null body status"):
        Response("", status=status)


def test_json_both_ways() -> None:
    response = Response.json({"a": [1, None]}, status=201, headers={"x": "y"})

    assert (response.status, response.headers["content-type"]) == (201, "application/json")
    assert response.headers["x"] == "y"
    assert asyncio.run(response.json()) == {"a": [1, None]}
    assert body_of(Response.json({"a": 1})) == b'{"a": 1}'
    assert Response.json(1, headers={"Content-Type": "a/b"}).headers["content-type"] == "a/b"
    with pytest.raises(TypeError):
        Response.json(object())


def test_redirects() -> None:
    response = Response.redirect("http://b/", 307)

    assert (response.status, response.headers["location"]) == (307, "http://b/")
    with pytest.raises(ValueError, match="redirect status"):
        Response.redirect("http://b/", 200)


@pytest.mark.parametrize("read", ["text", "bytes", "json", "buffer", "blob", "form_data"])
def test_a_body_is_read_once(read: str) -> None:
    request = Request("http://a/", method="POST", body="a=1", headers={"content-type": "text/plain"})
    asyncio.run(request.text())

    with pytest.raises(OSError, match="Body already used"):
        asyncio.run(getattr(request, read)())
    assert request.body_used


def test_a_stream_that_was_begun_is_used() -> None:
    async def main() -> None:
        response = Response(b"abc")
        assert response.body is not None
        assert await response.body.read(1) == b"a"
        with pytest.raises(OSError, match="Body already used"):
            await response.text()

    asyncio.run(main())


def test_a_stream_gives_chunks_that_know_to_bytes() -> None:
    async def main() -> list[bytes]:
        stream = Response("abc").body
        assert stream is not None
        return [chunk.to_bytes() async for chunk in stream]

    assert asyncio.run(main()) == [b"abc"]


@pytest.mark.parametrize("content", ["text", b"\xff\x00" * 100_000, None])
def test_a_clone_has_the_same_content(content: str | bytes | None) -> None:
    for given in (content, BytesBody(content) if isinstance(content, bytes) else content):
        original = Response.from_parts(200, "a: b\n", given)
        copy = original.clone()
        assert body_of(copy) == body_of(original) == asyncio.run(read_bytes(content))
        assert copy.headers == original.headers


def test_both_clones_of_a_stream_can_be_read_at_once() -> None:
    async def main() -> tuple[bytes, bytes]:
        original = Response.from_parts(200, "", BytesBody(bytes(200_000)))
        copy = original.clone()
        return tuple(await asyncio.gather(original.bytes(), copy.bytes()))  # type: ignore[return-value]

    assert asyncio.run(main()) == (bytes(200_000), bytes(200_000))


def test_what_was_used_cannot_be_cloned() -> None:
    response = Response("x")
    body_of(response)

    with pytest.raises(OSError, match="Body already used"):
        response.clone()


@pytest.mark.parametrize("raw", ["\ufeff{}", b"\xef\xbb\xbf{}", BytesBody(b"\xef\xbb\xbf{}")])
def test_a_byte_order_mark_is_no_content(raw: Raw) -> None:
    assert asyncio.run(Request.from_parts("POST", "http://a/", "", raw).json()) == {}


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert asyncio.run(Response(b"a\xffb").text()) == "a\ufffdb"


def test_bad_json_is_a_value_error() -> None:
    with pytest.raises(json.JSONDecodeError):
        asyncio.run(Response("{").json())


def test_the_method_is_a_member_and_text() -> None:
    assert Request("http://a/").method is HTTPMethod.GET
    assert Request("http://a/", method="post").method == "POST"
    assert f"{Request('http://a/', method='PUT').method}" == "PUT"
    assert Request.from_parts("BREW", "http://a/", "", None).method == "BREW"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_get_and_head_have_no_body(method: str) -> None:
    with pytest.raises(TypeError, match="cannot have a body"):
        Request("http://a/", method=method, body="x")


def test_a_request_of_a_request_takes_its_body() -> None:
    first = Request("http://a/", method="POST", body="x", headers={"a": "b"})
    second = Request(first, method="PUT")

    assert (second.method, second.url, second.headers["a"], body_of(second)) == ("PUT", "http://a/", "b", b"x")
    assert first.body_used


def test_js_object_is_the_request_itself() -> None:
    request = Request("http://a/")

    assert request.js_object is request


def test_a_form_is_a_body() -> None:
    form = FormData({"a": "1"})
    form.append("file", File(b"\xff", "name.bin", "a/b"))

    async def main() -> Any:
        return await Response(form).form_data()

    read = asyncio.run(main())
    assert (read["a"], read["file"].name, read["file"].type) == ("1", "name.bin", "a/b")
    assert asyncio.run(read["file"].bytes()) == b"\xff"


def test_tee() -> None:
    async def main() -> None:
        first, second = ReadableStream(BytesBody(b"abc")).tee()
        assert await first.read(1) == b"a"
        assert await second.read(9) == b"a"
        assert await second.read(9) == b"bc"
        assert await first.read(9) == b"bc"
        assert await first.read(9) == await second.read(9) == b""

    asyncio.run(main())
