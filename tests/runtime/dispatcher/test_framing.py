"""Header text in both directions: nothing about framing passes, nothing ends a header early."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.dispatcher.framing import (
    RESPONSE_HEADER_BYTES_MAX,
    RESPONSE_HEADERS_MAX,
    InvalidAnswer,
    InvalidRequest,
    claimed_length,
    is_authority,
    request_header_text,
    response_header_bytes,
    status_line,
)


def test_request_headers_become_lines_with_names_in_lower_case() -> None:
    headers = [(b"Accept", b"*/*"), (b"X-Twice", b"1"), (b"x-twice", b"2"), (b"Content-Length", b"5")]

    assert request_header_text(headers) == "accept: */*\nx-twice: 1\nx-twice: 2\ncontent-length: 5\n"


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Authorization",
        b"Proxy-Connection",
        b"TE",
        b"Trailer",
        b"Upgrade",
        b"Expect",
    ],
)
def test_a_request_header_of_the_connection_stays_outside(name: bytes) -> None:
    assert request_header_text([(b"A", b"1"), (name, b"close"), (b"B", b"2")]) == "a: 1\nb: 2\n"


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked"])
def test_the_transfer_encoding_stays_outside(coding: bytes) -> None:
    assert request_header_text([(b"Transfer-Encoding", coding), (b"A", b"1")]) == "a: 1\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Transfer-Encoding", b"gzip, chunked"),
        (b"Transfer-Encoding", b",chunked"),
        (b"transfer-encoding", b""),
        (b"Content-Length", b"18446744073709551615"),
        (b"content-length", b"00000000000000000000000003"),
    ],
)
def test_a_length_that_others_may_take_otherwise_is_refused(name: bytes, value: bytes) -> None:
    with pytest.raises(InvalidRequest):
        request_header_text([(b"A", b"1"), (name, value)])


def test_request_headers_have_a_bound_in_all() -> None:
    headers = [(b"X-%d" % number, b"a" * 1000) for number in range(70)]

    assert request_header_text(headers[:60])
    with pytest.raises(InvalidRequest):
        request_header_text(headers)


def test_headers_that_connection_names_stay_outside() -> None:
    headers = [(b"X-Hop", b"1"), (b"X-End", b"2"), (b"Connection", b"close, X-HOP"), (b"x-hop", b"3")]

    assert request_header_text(headers) == "x-end: 2\n"


def test_another_spelling_of_the_identity_header_stays_outside() -> None:
    headers = [(b"X-User-ID", b"user1"), (b"X_User_ID", b"user2"), (b"x-user_id", b"user3"), (b"A_B", b"kept")]

    assert request_header_text(headers, b"x-user-id") == "x-user-id: user1\na_b: kept\n"


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        (b"a=1; cloister_dashboard=secret; b=2", "cookie: a=1; b=2\n"),
        (b"cloister_dashboard=secret", ""),
        (b"cloister_dashboard_login=secret;a=1", "cookie: a=1\n"),
        (b"a=1;cloister_dashboard=secret", "cookie: a=1\n"),
    ],
)
def test_the_dashboards_cookies_stay_outside(sent: bytes, passed: str) -> None:
    headers = [(b"Accept", b"*/*"), (b"Cookie", sent), (b"X-Last", b"cloister_dashboard")]

    assert request_header_text(headers) == f"accept: */*\n{passed}x-last: cloister_dashboard\n"


def test_request_values_are_utf8_or_else_latin1() -> None:
    assert request_header_text([(b"a", "é".encode())]) == "a: é\n"
    assert request_header_text([(b"a", b"\xe9")]) == "a: é\n"


@pytest.mark.parametrize("value", [b"1\nb: 2", b"1\r2", b"1\x002"])
def test_a_request_value_with_a_line_end_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidRequest):
        request_header_text([(b"a", value)])


def test_answer_headers_keep_order_and_repetitions() -> None:
    text = "content-type: text/plain\nset-cookie: a=1\nset-cookie: b=2\nx-name: é\n"

    assert response_header_bytes(text) == (
        b"content-type: text/plain\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nx-name: \xc3\xa9\r\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        "content-length: 1",
        "Content-Length: 999",
        "transfer-encoding: chunked",
        "TRANSFER-ENCODING: identity",
        "connection: keep-alive",
        "keep-alive: timeout=5",
        "upgrade: websocket",
        "trailer: x",
        "te: trailers",
        "proxy-connection: close",
        "date: yesterday",
        "x-request-id: forged",
    ],
)
def test_an_answer_says_nothing_about_framing(line: str) -> None:
    assert response_header_bytes(f"a: 1\n{line}\nb: 2\n") == b"a: 1\r\nb: 2\r\n"


@pytest.mark.parametrize(
    "text",
    [
        "no colon\n",
        ": empty name\n",
        "na me: 1\n",
        "name : 1\n",
        " folded: 1\n",
        "a: 1\r\n",
        "a: 1\rb: 2\n",
        "a: 1\n\nb: 2\n",
        "a: \x00\n",
        "a: \x7f\n",
        "a: \x1b[31m\n",
        "naïve: 1\n",
        "a: 1",
        "a: \ud800\n",
        "transfer-encoding : chunked\n",
    ],
)
def test_an_answer_that_could_break_its_head_is_refused(text: str) -> None:
    with pytest.raises(InvalidAnswer):
        response_header_bytes(text)


def test_an_answer_has_a_bounded_head() -> None:
    with pytest.raises(InvalidAnswer):
        response_header_bytes("a: 1\n" * (RESPONSE_HEADERS_MAX + 1))
    with pytest.raises(InvalidAnswer):
        response_header_bytes("a: " + "x" * RESPONSE_HEADER_BYTES_MAX + "\n")
    with pytest.raises(InvalidAnswer):
        response_header_bytes("a: " + "é" * (RESPONSE_HEADER_BYTES_MAX // 2) + "\n")


@given(st.text(max_size=200))
def test_whatever_a_worker_writes_the_head_stays_whole(text: str) -> None:
    try:
        encoded = response_header_bytes(text)
    except InvalidAnswer:
        return

    lines = encoded.split(b"\r\n")
    assert lines.pop() == b""
    assert all(line and b"\n" not in line and b"\r" not in line and b"\0" not in line for line in lines)
    assert not any(line.lower().startswith((b"content-length:", b"transfer-encoding:")) for line in lines)


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 101, 199, 600, 1000, 65535])
def test_a_status_outside_of_200_to_599_is_refused(status: int) -> None:
    with pytest.raises(InvalidAnswer):
        status_line(status)


def test_a_status_without_a_name_has_a_status_line() -> None:
    assert status_line(200) == b"HTTP/1.1 200 OK\r\n"
    assert status_line(299) == b"HTTP/1.1 299 \r\n"


def test_only_one_plain_number_is_a_claimed_length() -> None:
    assert claimed_length("a: 1\ncontent-length: 12\n") == 12
    assert claimed_length("content-length: 1\ncontent-length: 2\n") is None
    assert claimed_length("content-length: -1\n") is None
    assert claimed_length("content-length: ١\n") is None


@pytest.mark.parametrize("host", ["a", "example.com", "example.com:80", "127.0.0.1:8787", "[::1]:80", "[::1]", "a_b"])
def test_a_host_is_an_authority(host: str) -> None:
    assert is_authority(host)


@pytest.mark.parametrize(
    "host", ["", "a/b", "a b", "a@b", "a?b", "a#b", "[::1", "a:b", "a:80:80", "a\\b", "é", "a" * 300]
)
def test_what_would_change_an_address_is_no_authority(host: str) -> None:
    assert not is_authority(host)
