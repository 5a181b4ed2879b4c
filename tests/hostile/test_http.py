"""Callers that are slow, many, ambiguous or wrong, on the tenants' port."""

from __future__ import annotations

import re
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.e2e.server import wait_until
from tests.hostile.site import Site, open_site

CONNECTIONS_MAX = 1_000
BEHIND_CONNECTIONS = 40
BEHIND_BYTES_MAX = 100 * 1024 * 1024
"""Two instances, and a megabyte and a half for each connection."""


@pytest.fixture(scope="module")
def site(
    copy_compiled: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory, hostile_component: bytes
) -> Iterator[Site]:
    directory = copy_compiled(tmp_path_factory.mktemp("http") / "data")
    with open_site(
        directory, hostile_component, connections_max=CONNECTIONS_MAX, request_body_bytes_max=10_000_000
    ) as opened:
        opened.deploy("tenant", wall_ms=5_000)
        yield opened


def connect(site: Site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", site.server.port), timeout=30)


def received_until_end(connection: socket.socket) -> bytes:
    received = b""
    try:
        while piece := connection.recv(65_536):
            received += piece
    except ConnectionResetError:
        pass
    return received


HEAD = b"POST /echo HTTP/1.1\r\nHost: a\r\nX-User-ID: tenant\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody!",
        b"Content-Length: 4, 5\r\n\r\nbody!",
        b"Content-Length: +4\r\n\r\nbody",
        b"Content-Length: -1\r\n\r\nbody",
        b"Content-Length: 0x4\r\n\r\nbody",
        b"Content-Length: 99999999999999999999999\r\n\r\nbody",
        b"Content-Length : 4\r\n\r\nbody",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n4;ext\nbody\r\n0\r\n\r\n",
        b'Transfer-Encoding: chunked\r\n\r\n4;ext="\r\n\r\nGET /smuggled HTTP/1.1\r\n"\r\nbody\r\n0\r\n\r\n',
        b"Transfer-Encoding: chunked\r\n\r\n10000000000000004\r\nbody\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x4\r\nbody\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n4 \r\nbody\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody!\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nContent-Length: 9\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n" + b"X: a\r\n" * 200 + b"\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
        b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
        b"Transfer-Encoding: \r\n\r\n",
        b"Content-Length: 18446744073709551616\r\n\r\nbody",
        b"Content-Length: 18446744073709551615\r\n\r\nbody",
        b"Content-Length: \xd9\xa4\r\n\r\nbody",
        b"X: a\nContent-Length: 4\r\n\r\nbody",
        b"X: a\r\n Content-Length: 4\r\n\r\nbody",
        b"X: a\rContent-Length: 4\r\n\r\nbody",
        b"X: a\0\r\n\r\n",
    ],
)
def test_a_message_whose_end_is_in_doubt_is_refused_and_nothing_after_it_is_answered(
    site: Site, framing: bytes
) -> None:
    received = site.attack(lambda: site.server.exchange(HEAD + framing))

    assert received.count(b"HTTP/1.1 ") <= 1
    assert not received.startswith(b"HTTP/1.1 2")
    assert b"smuggled" not in received


def test_what_comes_after_the_announced_length_is_another_request_or_none(site: Site) -> None:
    longer = HEAD.replace(b"Connection: close\r\n", b"") + b"Content-Length: 4\r\n\r\nbody" + b"and more of it\r\n\r\n"

    received = site.attack(lambda: site.server.exchange(longer))

    assert received.count(b"HTTP/1.1 200 ") <= 1
    assert received.count(b"HTTP/1.1 400 ") == 1
    assert b"and more" not in received


@pytest.mark.parametrize(
    "head",
    [
        b"POST /echo HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        b"POST /echo HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        b"POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n",
        b"POST http://user:pass@a/echo HTTP/1.1\r\n",
        b"POST /echo HTTP/2.0\r\nConnection: keep-alive\r\n",
        b"CONNECT a:80 HTTP/1.1\r\n",
    ],
)
def test_a_connection_ends_where_the_next_request_might_not_be_one(site: Site, head: bytes) -> None:
    """Another protocol was asked for, the version knows no chunks, or the head was refused."""
    framing = b"\r\n4\r\nbody\r\n0\r\n\r\n" if b"chunked" in head else b"Content-Length: 4\r\n\r\nbody"
    second = b"GET /sized?9 HTTP/1.1\r\nHost: a\r\nX-User-ID: tenant\r\n\r\n"

    received = site.attack(lambda: site.server.exchange(head + b"Host: a\r\nX-User-ID: tenant\r\n" + framing + second))

    assert received.count(b"x-request-id: ") == 1
    assert b"connection: close" in received
    assert b"xxxxxxxxx" not in received


def test_what_is_said_of_chunks_is_not_kept(site: Site) -> None:
    extension = b"4;" + b"a" * 20_000_000 + b"\r\nbody\r\n"
    zeros = b"0" * 1_000_000 + b"4\r\nbody\r\n"

    received = site.attack(
        lambda: site.server.exchange(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + extension + zeros + b"0\r\n\r\n")
    )

    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.count(b"body") == 2


@pytest.mark.parametrize("host", [b"user:pass@a", b"a:99999", b"a/b?c", b"a b", b"[::1", b"a\\b"])
def test_a_host_that_is_none_is_refused(site: Site, host: bytes) -> None:
    head = b"GET /sized?5 HTTP/1.1\r\nHost: %b\r\nX-User-ID: tenant\r\nConnection: close\r\n\r\n" % host

    received = site.attack(lambda: site.server.exchange(head))

    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"The Host header is not a host." in received


@pytest.mark.parametrize(
    "line",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET http://[::1 HTTP/1.1",
        b"GET //////..//../../etc/passwd HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET a HTTP/1.1",
        b"CONNECT 127.0.0.1:22 HTTP/1.1",
        b"GET http://user:pass@127.0.0.1:22/ HTTP/1.1",
        b"GET file:///etc/passwd HTTP/1.1",
        b"GET http://a:99999/ HTTP/1.1",
        b"GET /" + b"%25" * 2_700 + b" HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET / HTTP/2.0",
        b"GET /",
        b"PRI * HTTP/2.0",
        b"GET / HTTP/9.9",
        b"G\x01T / HTTP/1.1",
        b"GET /\xff\xfe HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"",
    ],
)
def test_an_absurd_request_line_gets_an_answer_or_the_end(site: Site, line: bytes) -> None:
    head = line + b"\r\nHost: a\r\nX-User-ID: nobody-there\r\nConnection: close\r\n\r\n"

    received = site.attack(lambda: site.server.exchange(head))

    assert received == b"" or received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 405 "))
    assert b"Traceback" not in received and b"site-packages" not in received


@pytest.mark.parametrize(
    "headers",
    [
        b"X: " + b"a" * 100_000 + b"\r\n",
        b"".join(b"X-%d: a\r\n" % n for n in range(5_000)),
        b"".join(b"X-%d: %b\r\n" % (n, b"a" * 7_000) for n in range(10)),
        b": a\r\n",
        b"X y: a\r\n",
    ],
)
def test_a_head_that_is_too_much_is_refused(site: Site, headers: bytes) -> None:
    received = site.attack(lambda: site.server.exchange(HEAD + headers + b"\r\n"))

    assert received.startswith(b"HTTP/1.1 400 ")


def test_a_head_that_does_not_end_is_refused_at_its_bound(site: Site) -> None:
    def strike() -> bytes:
        with connect(site) as connection:
            connection.sendall(HEAD)
            with suppress(ConnectionError):
                for number in range(100):
                    connection.sendall(b"X-%d: %b\r\n" % (number, b"a" * 8_000))
            return received_until_end(connection)

    received = site.attack(strike)

    # What was on its way when the server had seen enough may have reset the connection before the answer was read.
    assert not received or received.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "rest",
    [
        b"".join(b"X-%d: %b\r\n" % (n, b"a" * 6_000) for n in range(10)) + b"\r\n",
        b"Content-Length: 400000\r\n\r\n" + bytes(400_000),
    ],
    ids=["heads", "bodies"],
)
def test_requests_behind_one_that_takes_long_stay_with_their_caller(site: Site, rest: bytes) -> None:
    site.deploy("behind", wall_ms=600_000, instances_max=2)
    assert site.call("behind", "sized?5").text == "xxxxx"
    first = b"GET /wait_for_nothing HTTP/1.1\r\nHost: a\r\nX-User-ID: behind\r\n\r\n"
    behind = HEAD.replace(b"Connection: close\r\n", b"") + rest

    def strike() -> None:
        with ExitStack() as stack:
            before = site.footprint()
            for _ in range(BEHIND_CONNECTIONS):
                connection = stack.enter_context(connect(site))
                # At the end it resets, so that the server need not wait for what nobody reads.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(first)
                connection.settimeout(0.05)
                with suppress(TimeoutError):
                    for _ in range(40):
                        connection.sendall(behind)
            assert not site.footprint().exceeds(
                before, memory_bytes=BEHIND_BYTES_MAX, descriptors=BEHIND_CONNECTIONS + 100, threads=100
            )

    site.attack(strike)


def test_a_thousand_pipelined_requests_are_answered_in_order(site: Site) -> None:
    def request(n: int) -> bytes:
        closing = b"Connection: close\r\n" if n == 999 else b""
        return b"POST /echo HTTP/1.1\r\nHost: a\r\nX-User-ID: tenant\r\n%bContent-Length: 5\r\n\r\n[%03d]" % (
            closing,
            n,
        )

    received = site.attack(lambda: site.server.exchange(b"".join(map(request, range(1000)))))

    positions = [received.find(b"[%03d]" % n) for n in range(1000)]
    assert -1 not in positions and positions == sorted(positions)


def test_ten_thousand_idle_connections_leave_room_for_others(site: Site) -> None:
    """The test itself needs as many open files, and takes what it may have."""
    wanted = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
    assert wanted > CONNECTIONS_MAX

    def strike() -> None:
        with ExitStack() as stack:
            for number in range(wanted):
                connection = stack.enter_context(connect(site))
                if number % 2:
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Us")
            assert site.call("tenant", "sized?5").text == "xxxxx"
            assert site.footprint().descriptors < CONNECTIONS_MAX + 500

    site.attack(strike)


@pytest.mark.parametrize("expectation", [b"", b"Expect: 100-continue\r\n"])
def test_slow_bodies_hold_no_instance_and_make_room_for_others(site: Site, expectation: bytes) -> None:
    def strike() -> None:
        with ExitStack() as stack:
            for _ in range(CONNECTIONS_MAX + 200):
                connection = stack.enter_context(connect(site))
                connection.sendall(HEAD + expectation + b"Content-Length: 60000\r\n\r\n")
            for _ in range(3):
                assert site.call("tenant", "sized?5").text == "xxxxx"
                time.sleep(0.1)

    site.attack(strike)


def test_a_slow_body_that_a_worker_reads_ends_at_the_workers_limit(site: Site) -> None:
    site.deploy("slow", wall_ms=700)

    def strike() -> bytes:
        with connect(site) as connection:
            connection.sendall(HEAD.replace(b"tenant", b"slow").replace(b"/echo", b"/take_in"))
            connection.sendall(b"Content-Length: 1000000\r\n\r\nx")
            return connection.recv(65_536)

    received = site.attack(strike)

    assert received.startswith(b"HTTP/1.1 504 ")
    assert b"limit.wall" in received


def test_a_body_that_breaks_off_ends_its_request(site: Site) -> None:
    def strike() -> bytes:
        with connect(site) as connection:
            connection.sendall(HEAD + b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
            # It is under way. One that is not yet, when its caller leaves, never is.
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"half")
            connection.shutdown(socket.SHUT_WR)
            return received_until_end(connection)

    def canceled() -> int:
        return [line["outcome"] for line in site.access_lines("tenant")].count("canceled")

    before = canceled()

    received = site.attack(strike)

    # The worker gives back what it gets, and may have begun to.
    assert len(received.partition(b"\r\n\r\n")[2]) < 1_000
    wait_until(lambda: canceled() > before, "its request goes on")


def test_callers_that_never_read_hold_nothing_for_long(site: Site) -> None:
    site.deploy("not-read", wall_ms=3_000)

    def strike() -> None:
        with ExitStack() as stack:
            for _ in range(20):
                connection = stack.enter_context(connect(site))
                connection.sendall(b"GET /endless_body HTTP/1.1\r\nHost: a\r\nX-User-ID: not-read\r\n\r\n")
            time.sleep(3.5)
            assert site.call("not-read", "sized?5").text == "xxxxx"

    site.attack(strike)

    assert site.logged("not-read", "[limit.wall]")


LEAVERS = 100
UNREAD_LEAVERS = 10
LEFT_S = 60.0
"""Far below the limits of a tenant whose callers leave: what comes free in this time was freed by their leaving."""


def calls_running(site: Site, tenant: str) -> float:
    """As of the last second or so; of a tenant that has answered once, the others are shown together."""
    text = site.server.control("GET", "/metrics").text
    found = re.search(rf'^cloister_calls_running{{[^}}]*tenant="{tenant}"[^}}]*}} (\S+)', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("attack", ["sleep_a_year", "wait_for_nothing", "loop", "body_that_stops", "endless_body"])
def test_a_caller_that_leaves_ends_its_request(site: Site, attack: str) -> None:
    """Callers that leave while their worker sleeps, waits, computes or streams; half of them wait for an instance."""
    tenant = f"left-{attack.replace('_', '-')}"
    site.deploy(tenant, cpu_ms=300_000, wall_ms=600_000, instances_max=LEAVERS // 2)
    assert site.call(tenant, "sized?5").status == 200
    request = f"GET /{attack} HTTP/1.1\r\nHost: a\r\nX-User-ID: {tenant}\r\n\r\n".encode()

    def strike() -> None:
        with ExitStack() as stack:
            connections = [stack.enter_context(connect(site)) for _ in range(LEAVERS)]
            for connection in connections:
                connection.sendall(request)
            wait_until(lambda: calls_running(site, tenant) >= LEAVERS, "the calls did not begin", LEFT_S)
        wait_until(lambda: calls_running(site, tenant) == 0, "the instances did not come free", LEFT_S)
        assert site.call(tenant, "sized?5").text == "xxxxx"

    site.attack(strike)

    canceled = [line for line in site.access_lines(tenant) if line["outcome"] == "canceled"]
    assert len(canceled) >= LEAVERS
    assert {line["status"] for line in canceled} <= ({200, 499} if "body" in attack else {499})


@pytest.mark.parametrize("parting", [b"", struct.pack("ii", 1, 0)], ids=["close", "reset"])
def test_a_caller_that_leaves_while_it_sends_a_body_that_nobody_reads_ends_its_request(
    site: Site, parting: bytes
) -> None:
    site.deploy("left-unread", cpu_ms=300_000, wall_ms=600_000)
    assert site.call("left-unread", "sized?5").status == 200
    request = HEAD.replace(b"tenant", b"left-unread").replace(b"/echo", b"/wait_for_nothing")

    def strike() -> None:
        with ExitStack() as stack:
            for _ in range(UNREAD_LEAVERS):
                connection = stack.enter_context(connect(site))
                connection.sendall(request + b"Content-Length: 9000000\r\n\r\n" + bytes(900_000))
                if parting:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, parting)
            wait_until(lambda: calls_running(site, "left-unread") >= UNREAD_LEAVERS, "they did not begin", LEFT_S)
        wait_until(lambda: calls_running(site, "left-unread") == 0, "the instances did not come free", LEFT_S)

    site.attack(strike)


@pytest.mark.parametrize("attack", ["work_until", "work_until_and_stream"])
def test_work_that_was_to_go_on_is_done_when_the_caller_leaves(site: Site, attack: str) -> None:
    site.deploy("until", wall_ms=600_000)
    assert site.call("until", "sized?5").status == 200
    stored = f"{attack}-done"

    def strike() -> None:
        with connect(site) as connection:
            connection.sendall(f"GET /{attack}?{stored} HTTP/1.1\r\nHost: a\r\nX-User-ID: until\r\n\r\n".encode())
            wait_until(lambda: calls_running(site, "until") >= 1, "the call did not begin", LEFT_S)
        wait_until(lambda: site.call("until", "worked").text == stored, "the work was not done", LEFT_S)
        wait_until(lambda: calls_running(site, "until") == 0, "the instance did not come free", LEFT_S)

    site.attack(strike)
