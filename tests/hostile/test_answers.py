"""Answers that would end a message early, say how long they are, or never end: the dispatcher owns the wire."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from urllib.parse import quote

import pytest

from tests.e2e.server import Reply
from tests.hostile.site import Site, check_refused


@pytest.fixture(scope="module")
def attacker(site: Site) -> str:
    site.deploy("attacker", cpu_ms=1_000, wall_ms=3_000, response_body_bytes_max=5_000_000)
    site.call("attacker", "work?0")
    return "attacker"


@pytest.fixture
def answer(site: Site, attacker: str) -> Callable[..., Reply]:
    """Lets the worker answer with any status and header text."""

    def ask(status: int, headers: str, times: int = 1, *, early: bool = True) -> Reply:
        asked = quote(json.dumps({"status": status, "headers": headers, "times": times, "early": early}))
        return site.attack(lambda: site.call(attacker, f"answer?{asked}"))

    return ask


@pytest.mark.parametrize(
    "headers",
    [
        "x: a\r\nset-cookie: b=c\n",
        "x: a\rset-cookie: b=c\n",
        "x: a\0b\n",
        "x y: a\n",
        ": a\n",
        "x\n",
        "x: a\n\nbody",
        "x:a\x7f\n",
        "\x85: a\n",
        " folded: a\n",
    ],
)
def test_a_header_that_is_none_is_not_sent(answer: Callable[..., Reply], headers: str) -> None:
    reply = answer(200, headers)

    check_refused(reply, 502, "invalid_answer")
    assert "set-cookie" not in reply.headers


def test_a_hundred_thousand_headers_are_not_sent(answer: Callable[..., Reply]) -> None:
    check_refused(answer(200, "x: a\n", times=100_000), 502, "limit.response_headers")


def test_too_many_headers_are_not_sent(answer: Callable[..., Reply]) -> None:
    check_refused(answer(200, "x: a\n", times=257), 502, "invalid_answer")


def test_a_huge_header_is_not_sent(answer: Callable[..., Reply]) -> None:
    check_refused(answer(200, "x: " + "a" * 1000, times=10_000), 502, "limit.response_headers")


@pytest.mark.parametrize("status", [0, 1, 99, 100, 101, 103, 199, 600, 999, 1000, 65_535])
def test_a_status_that_is_none_is_not_sent(site: Site, answer: Callable[..., Reply], status: int) -> None:
    check_refused(answer(status, "", early=False), 502, "invalid_answer")
    check_refused(answer(status, "", early=True), 500, "exception")
    assert site.logged("attacker", "status codes in the range 200 to 599")


@pytest.mark.parametrize(
    "headers",
    [
        "content-length: 1\n",
        "content-length: 999\n",
        "content-length: 4\ncontent-length: 5\n",
        "Transfer-Encoding: chunked\n",
        "transfer-encoding: gzip, chunked\ncontent-length: 4\n",
        "connection: close\nkeep-alive: timeout=1\n",
        "connection: x-kept\n",
        "upgrade: websocket\n",
        "trailer: x\nte: trailers\nproxy-authenticate: Basic\n",
        "x-request-id: forged\ndate: forged\n",
    ],
)
def test_what_a_worker_says_of_the_message_itself_is_left_out(site: Site, attacker: str, headers: str) -> None:
    asked = quote(json.dumps({"status": 200, "headers": headers + "x-kept: yes\n", "early": True}))
    head = f"GET /answer?{asked} HTTP/1.1\r\nHost: a\r\nX-User-ID: {attacker}\r\n\r\n".encode()

    def strike() -> bytes:
        with socket.create_connection(("127.0.0.1", site.server.port), timeout=30) as connection:
            # The second answer on the connection shows that the first ended where it said.
            connection.sendall(head + head.replace(b"\r\nHost", b"\r\nConnection: close\r\nHost"))
            return b"".join(iter(lambda: connection.recv(65_536), b""))

    first, _, second = site.attack(strike).partition(b"body")
    for one in (first, second.partition(b"body")[0]):
        assert one.startswith(b"HTTP/1.1 200 OK\r\n")
        assert one.count(b"content-length: ") == 1 and b"content-length: 4\r\n" in one
        for name in (b"transfer-encoding", b"keep-alive", b"upgrade", b"trailer", b"\nte:", b"proxy-", b"forged"):
            assert name not in one.lower()
        assert b"x-kept: yes\r\n" in one
    assert second.endswith(b"\r\n\r\nbody")


def broken_off(site: Site, user: str, attack: str) -> bytes:
    """What arrives of an answer that is broken off. Fails if it seems to be whole."""
    connection = HTTPConnection("127.0.0.1", site.server.port, timeout=60)
    taken = b""
    try:
        connection.request("GET", f"/{attack}", headers={"X-User-ID": user})
        answer = connection.getresponse()
        assert answer.status == 200
        while piece := answer.read1(65_536):
            taken += piece
    except (HTTPException, ConnectionError):
        return taken
    finally:
        connection.close()
    raise AssertionError("the answer seems to be whole")


def test_a_body_without_end_is_broken_off_at_the_limit(site: Site, attacker: str) -> None:
    taken = site.attack(lambda: broken_off(site, attacker, "endless_body"))

    assert len(taken) <= 5_000_000
    assert site.logged(attacker, "[limit.response_body]")


@pytest.mark.parametrize("attack", ["body_that_stops", "body_that_nobody_writes"])
def test_a_body_that_is_not_ended_is_broken_off_in_time(site: Site, attacker: str, attack: str) -> None:
    taken = site.attack(lambda: broken_off(site, attacker, attack))

    assert taken in (b"", b"begun")
    assert site.logged(attacker, "After the answer: Worker took too long to answer. (limit: 3000 ms) [limit.wall]")


def test_a_trap_in_the_middle_of_a_body_breaks_it_off(site: Site, attacker: str) -> None:
    taken = site.attack(lambda: broken_off(site, attacker, "trap_in_the_body"))

    assert taken in (b"", b"begun")
    assert site.logged(attacker, "After the answer: The worker crashed")
