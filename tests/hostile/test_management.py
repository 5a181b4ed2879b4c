"""The management port, as strangers, web pages and tenants meet it."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.e2e.server import SCRIPTS, TOKEN, Reply
from tests.hostile.site import Site

WRONG = {
    "none": None,
    "empty": "",
    "no scheme": TOKEN,
    "another scheme": f"Basic {TOKEN}",
    "one character less": f"Bearer {TOKEN[:-1]}",
    "one character more": f"Bearer {TOKEN}a",
    "another case": f"Bearer {TOKEN.swapcase()}",
    "a megabyte": "Bearer " + "a" * 8_000,
}


def call(site: Site, method: str = "GET", path: str = SCRIPTS, **headers: str) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", site.server.admin_port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return Reply(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("credentials", WRONG.values(), ids=WRONG)
def test_without_the_token_every_path_answers_the_same(site: Site, credentials: str | None) -> None:
    headers = {} if credentials is None else {"Authorization": credentials}
    asked = [("GET", SCRIPTS), ("GET", f"{SCRIPTS}/bystander"), ("GET", f"{SCRIPTS}/nobody"), ("DELETE", "/nothing")]

    replies = site.attack(lambda: [call(site, method, path, **headers) for method, path in asked])

    assert {reply.status for reply in replies} == {401}
    assert len({reply.body for reply in replies}) == 1
    assert TOKEN.encode() not in replies[0].body


def test_how_much_of_a_token_is_right_does_not_show_in_the_time(site: Site) -> None:
    """Only that no request takes long: the comparison itself is in constant time, see `runtime.control.guard`."""

    def median_ms(token: str) -> float:
        taken = []
        for _ in range(20):
            started = time.perf_counter()
            assert call(site, Authorization=f"Bearer {token}").status == 401
            taken.append((time.perf_counter() - started) * 1000)
        return statistics.median(taken)

    medians = site.attack(lambda: [median_ms("x" * len(TOKEN)), median_ms(TOKEN[:-1] + "~")])

    assert max(medians) < 1_000


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example:8788"},
        {"Host": "169.254.169.254"},
        {"Host": "[::ffff:8.8.8.8]"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
    ids=str,
)
def test_a_page_that_a_browser_here_shows_gets_nothing_even_with_the_token(site: Site, headers: dict[str, str]) -> None:
    reply = site.attack(lambda: call(site, Authorization=f"Bearer {TOKEN}", **headers))

    assert reply.status == 403
    assert "access-control-allow-origin" not in {name.lower() for name in reply.headers}


def test_a_preflight_of_a_browser_allows_nothing(site: Site) -> None:
    reply = site.attack(
        lambda: call(site, "OPTIONS", Origin="https://evil.example", Access_Control_Request_Method="DELETE")
    )

    assert reply.status >= 400
    assert not [name for name in reply.headers if name.lower().startswith("access-control-")]


def test_the_tenants_port_knows_nothing_of_the_management_api(site: Site) -> None:
    def strike() -> list[Reply]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return [
            site.server.request("GET", SCRIPTS, user=None, headers=headers),
            site.server.request("DELETE", f"{SCRIPTS}/bystander", user="bystander", headers=headers),
        ]

    nobody, bystander = site.attack(strike)

    assert nobody.status == 400
    assert bystander.status == 500  # the worker has no such path; it is its request to answer
    assert site.call("bystander", "work?4").status == 200


def test_slow_and_idle_connections_do_not_stop_the_operator(site: Site) -> None:
    def strike() -> None:
        with ExitStack() as stack:
            for number in range(300):
                connection = stack.enter_context(
                    socket.create_connection(("127.0.0.1", site.server.admin_port), timeout=30)
                )
                if number % 3 == 0:
                    connection.sendall(b"PUT /client/v4 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le")
                if number % 3 == 1:
                    connection.sendall(b"PUT /client HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\nx")
            assert site.server.control("GET", SCRIPTS).status == 200

    site.attack(strike)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_a_malformed_request_is_refused(site: Site, sent: bytes) -> None:
    def strike() -> bytes:
        with socket.create_connection(("127.0.0.1", site.server.admin_port), timeout=30) as connection:
            connection.sendall(sent)
            try:
                return connection.recv(65_536)
            except ConnectionResetError:
                return b""

    received = site.attack(strike)

    assert received == b"" or received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 403 ", b"HTTP/1.0 400 "))
    assert received == b"" or b'{"success":false,' in received
    assert b"Traceback" not in received


BULK_BYTES = 99_000_000
BULK_MEMORY_BYTES = 3 * BULK_BYTES
"""The values as they are stored, and the largest of them once more as text and as it came."""


def bulk_address(site: Site) -> str:
    found = site.server.control("GET", f"{SCRIPTS}/bystander/bindings/KV/store").json()["result"]
    return f"/client/v4/accounts/local/storage/kv/namespaces/{found['id']}/bulk"


def test_a_bulk_write_of_a_hundred_megabytes_holds_nobody_up(site: Site) -> None:
    """It is read value by value: neither the time nor the memory is that of the whole."""
    value = base64.b64encode(bytes(BULK_BYTES // 4 // 4 * 3)).decode()
    body = json.dumps([{"key": f"bulk-{n}", "value": value, "base64": True} for n in range(4)]).encode()
    before, peak = site.footprint().memory_bytes, 0

    def strike() -> Reply:
        nonlocal peak
        with ThreadPoolExecutor(1) as pool:
            written = pool.submit(site.server.control, "PUT", bulk_address(site), body=body)
            while not written.done():
                peak = max(peak, site.footprint().memory_bytes)
                time.sleep(0.01)
        return written.result()

    reply = site.attack(strike)

    assert reply.json()["result"]["successful_key_count"] == 4, reply.text
    assert peak - before < BULK_MEMORY_BYTES


NO_BULK = {
    "deep": b"[" * 200_000,
    "many": b"[" + b"[]," * 100_000,
    "escapes": b'[{"key":"k","value":"' + b"\\\\" * 100_000,
    "no array": b'{"not": "an array"}',
    "nothing": b" " * 99,
}


@pytest.mark.parametrize("begin", NO_BULK.values(), ids=NO_BULK)
def test_a_bulk_write_that_is_none_is_refused(site: Site, begin: bytes) -> None:
    body = begin * (BULK_BYTES // len(begin) if begin.startswith(b"[") else 1)

    def strike() -> int:
        try:
            return site.server.control("PUT", bulk_address(site), body=body).status
        except (ConnectionError, http.client.HTTPException):
            return 400  # it was refused before all of it had been sent

    assert site.attack(strike) == 400
