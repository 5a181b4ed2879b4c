"""Each limit of a tenant, hit from outside: the answer and the tenant's log name it, and the other side of it works."""

from __future__ import annotations

import http.client
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.engine.engine import SLICE_S
from runtime.engine.limits import limit_codes
from tests.e2e.server import Reply, wait_until
from tests.hostile.site import Site, check_refused


def test_every_limit_has_a_test_in_this_suite() -> None:
    suite = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))

    assert [code for code in set(limit_codes().values()) if f"[{code}]" not in suite and f'"{code}"' not in suite] == []


CPU_MS = 100


def test_a_loop_is_ended_within_two_time_slices_of_the_limit(site: Site) -> None:
    """By the CPU time that is booked to the requests. The median: the system may let the ticker wait now and then."""
    site.deploy("cpu", cpu_ms=CPU_MS, wall_ms=60_000)
    calls = 15

    def strike() -> None:
        for _ in range(calls):
            check_refused(site.call("cpu", "loop"), 503, "limit.cpu")
        wait_until(lambda: len(site.access_lines("cpu")) >= calls, "the lines were not written")

    site.attack(strike)

    booked_ms = [line["cpu_ms"] for line in site.access_lines("cpu")]
    assert min(booked_ms) > CPU_MS
    assert statistics.median(booked_ms) <= CPU_MS + 2 * SLICE_S * 1000


def test_more_requests_than_a_second_may_have_are_told_to_wait(site: Site) -> None:
    site.deploy("rate", requests_per_s=5)

    def strike() -> list[Reply]:
        return [site.call("rate", "sized?5") for _ in range(30)]

    replies = site.attack(strike)

    refused = [reply for reply in replies if reply.status != 200]
    assert 5 <= len(replies) - len(refused) < 30
    for reply in refused:
        check_refused(reply, 429, "limit.requests")
        assert reply.headers["retry-after"] == "1"
    assert site.logged("rate", "[limit.requests]")


def test_more_requests_than_the_queue_takes_are_told_to_wait(site: Site) -> None:
    site.deploy("queue", instances_max=2, queue_max=3, wall_ms=700)

    def strike() -> list[Reply]:
        with ThreadPoolExecutor(12) as pool:
            return list(pool.map(lambda _: site.call("queue", "sleep_a_year"), range(12)))

    replies = site.attack(strike)

    refused = [reply for reply in replies if reply.status == 503]
    assert len(refused) >= 12 - 5
    for reply in refused:
        check_refused(reply, 503, "limit.queue")
        assert reply.headers["retry-after"] == "1"
    assert site.logged("queue", "[limit.queue]")


def test_a_request_body_above_the_limit_is_refused(site: Site) -> None:
    site.deploy("body-in", request_body_bytes_max=100_000)

    assert site.call("body-in", "take_in", body=b"x" * 100_000).text == "100000"
    check_refused(site.attack(lambda: site.call("body-in", "take_in", body=b"x" * 100_001)), 413, "limit.request_body")
    assert site.logged("body-in", "[limit.request_body]")


def test_a_request_body_of_unknown_length_is_refused_when_it_gets_too_long(site: Site) -> None:
    site.deploy("chunked-in", request_body_bytes_max=100_000)

    def send(pieces: int) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", site.server.port, timeout=60)
        try:
            body = iter([b"x" * 10_000] * pieces)
            connection.request("POST", "/take_in", body, {"X-User-ID": "chunked-in"}, encode_chunked=True)
            answer = connection.getresponse()
            return Reply(answer.status, {}, answer.read())
        finally:
            connection.close()

    assert send(10).text == "100000"
    check_refused(site.attack(lambda: send(11)), 413, "limit.request_body")
    assert site.logged("chunked-in", "[limit.request_body]")


def test_an_answer_above_the_limit_is_not_sent(site: Site) -> None:
    site.deploy("body-out", response_body_bytes_max=100_000)

    assert len(site.call("body-out", "sized?100000").body) == 100_000
    assert len(site.call("body-out", "streamed?100000").body) == 100_000
    check_refused(site.attack(lambda: site.call("body-out", "sized?100001")), 502, "limit.response_body")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        site.call("body-out", "streamed?101000")
    assert site.logged("body-out", "[limit.response_body]")


def test_headers_above_the_limit_are_not_sent(site: Site) -> None:
    site.deploy("headers-out", response_header_bytes_max=1_000)

    assert site.call("headers-out", "headers?900").status == 200
    check_refused(site.attack(lambda: site.call("headers-out", "headers?1000")), 502, "limit.response_headers")
    assert site.logged("headers-out", "[limit.response_headers]")


def test_what_is_logged_above_the_limit_is_left_out(site: Site) -> None:
    site.deploy("log", log_bytes_max=10_000)

    assert site.attack(lambda: site.call("log", "print_bytes?50000")).text == "printed"

    assert site.logged("log", "[limit.log]")
    assert sum(len(entry["message"]) for entry in site.log_entries("log")) <= 11_000


def test_an_operators_maximum_holds_for_everybody(site: Site) -> None:
    reply = site.server.deploy("greedy", site.component, limits={"cpu_ms": 10**9})

    assert reply.status == 400
    assert "metadata.limits.cpu_ms: expected int <= 300000" in reply.text
