"""Downloads as HTTP has them: type, length, validators, ranges, conditions, HEAD."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from email.utils import formatdate, parsedate_to_datetime

import pytest

from tests.e2e.server import Server

CONTENT = bytes(range(256)) * 4
PATH = "/files?key=downloads/object"


@pytest.fixture(scope="module")
def stored(platform: Server) -> Iterator[dict[str, str]]:
    """The headers of the stored object."""
    assert platform.upload_file("downloads/object", CONTENT, content_type="image/png; a=b").status == 200
    reply = platform.request("GET", PATH)
    yield dict(reply.headers)


def test_a_download_says_what_it_is(platform: Server) -> None:
    platform.upload_file("downloads/object", CONTENT, content_type="image/png; a=b")

    reply = platform.request("GET", PATH)

    assert reply.status == 200
    assert reply.body == CONTENT
    assert reply.headers["content-type"] == "image/png; a=b"
    assert reply.headers["content-length"] == "1024"
    assert reply.headers["etag"] == f'"{hashlib.md5(CONTENT).hexdigest()}"'
    assert reply.headers["accept-ranges"] == "bytes"
    assert (
        abs(
            (
                parsedate_to_datetime(reply.headers["last-modified"]) - parsedate_to_datetime(reply.headers["date"])
            ).total_seconds()
        )
        < 60
    )


def test_a_file_without_a_type_is_octets(platform: Server) -> None:
    platform.upload_file("downloads/untyped", b"x", content_type=None)

    assert platform.request("GET", "/files?key=downloads/untyped").headers["content-type"] == "application/octet-stream"


def test_an_empty_file_is_a_file(platform: Server) -> None:
    platform.upload_file("downloads/empty", b"")

    reply = platform.request("GET", "/files?key=downloads/empty")

    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")


def test_head_has_the_headers_and_no_bytes(platform: Server, stored: dict[str, str]) -> None:
    reply = platform.request("HEAD", PATH)

    assert (reply.status, reply.body) == (200, b"")
    for name in ("content-type", "content-length", "etag", "last-modified"):
        assert reply.headers[name] == stored[name]


def test_head_of_a_key_that_is_not_there_is_404(platform: Server) -> None:
    assert platform.request("HEAD", "/files?key=downloads/none").status == 404


@pytest.mark.parametrize(
    ("asked", "content", "range_"),
    [
        ("bytes=0-0", CONTENT[:1], "bytes 0-0/1024"),
        ("bytes=10-19", CONTENT[10:20], "bytes 10-19/1024"),
        ("bytes=1000-", CONTENT[1000:], "bytes 1000-1023/1024"),
        ("bytes=1000-5000", CONTENT[1000:], "bytes 1000-1023/1024"),
        ("bytes=-24", CONTENT[-24:], "bytes 1000-1023/1024"),
        ("bytes=-5000", CONTENT, "bytes 0-1023/1024"),
        ("bytes=0-", CONTENT, "bytes 0-1023/1024"),
    ],
)
def test_a_range_is_206(platform: Server, stored: dict[str, str], asked: str, content: bytes, range_: str) -> None:
    reply = platform.request("GET", PATH, headers={"Range": asked})

    assert (reply.status, reply.body) == (206, content)
    assert reply.headers["content-range"] == range_
    assert reply.headers["content-length"] == str(len(content))
    assert reply.headers["content-type"] == "image/png; a=b"
    assert reply.headers["etag"] == stored["etag"]


@pytest.mark.parametrize("asked", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_outside_of_the_file_is_416(platform: Server, stored: dict[str, str], asked: str) -> None:
    reply = platform.request("GET", PATH, headers={"Range": asked})

    assert reply.status == 416
    assert reply.headers["content-range"] == "bytes */1024"


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes", "bytes=-"])
def test_a_range_that_is_none_is_not_heeded(platform: Server, stored: dict[str, str], asked: str) -> None:
    reply = platform.request("GET", PATH, headers={"Range": asked})

    assert (reply.status, reply.body) == (200, CONTENT)


OLD = formatdate(0, usegmt=True)
LATE = "Fri, 31 Dec 2100 23:59:59 GMT"


def test_what_the_caller_has_already_is_304(platform: Server, stored: dict[str, str]) -> None:
    for conditions in (
        {"If-None-Match": stored["etag"]},
        {"If-None-Match": f'"x", W/{stored["etag"]}'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": stored["last-modified"]},
        {"If-Modified-Since": LATE},
        {"If-None-Match": stored["etag"], "If-Modified-Since": OLD},
    ):
        reply = platform.request("GET", PATH, headers=conditions)
        assert (reply.status, reply.body) == (304, b""), conditions
        assert reply.headers["etag"] == stored["etag"]
        assert platform.request("HEAD", PATH, headers=conditions).status == 304


def test_a_condition_that_fails_is_412(platform: Server, stored: dict[str, str]) -> None:
    for conditions in (
        {"If-Match": '"other"'},
        {"If-Unmodified-Since": OLD},
        {"If-Match": '"other"', "If-None-Match": stored["etag"]},
    ):
        assert platform.request("GET", PATH, headers=conditions).status == 412, conditions
        assert platform.request("HEAD", PATH, headers=conditions).status == 412, conditions


def test_a_condition_that_holds_is_200(platform: Server, stored: dict[str, str]) -> None:
    for conditions in (
        {"If-Match": stored["etag"]},
        {"If-Match": f'"x", {stored["etag"]}'},
        {"If-Match": "*"},
        {"If-None-Match": '"other"'},
        {"If-Modified-Since": OLD},
        {"If-Unmodified-Since": LATE},
    ):
        reply = platform.request("GET", PATH, headers=conditions)
        assert (reply.status, reply.body) == (200, CONTENT), conditions
