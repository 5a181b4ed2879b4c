"""Without dispatch code of the operator's: each request goes to the `fetch` of the tenant that X-User-ID names."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from guest_sdk.build import build
from host_bindings import WIT_DIRECTORY
from tests.components import GUESTS, raw_component
from tests.e2e.server import Server, start


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start(tmp_path_factory.mktemp("forwarding") / "data", request_body_bytes_max=100_000) as server:
        deployed = server.deploy("tenant", raw_component("intruder").read_bytes())
        assert deployed.status == 200, deployed.text
        sdk_component = build(GUESTS / "rpc_worker", wit_directory=WIT_DIRECTORY).read_bytes()
        deployed = server.deploy("sdk", sdk_component, limits={"cpu_ms": 1_000})
        assert deployed.status == 200, deployed.text
        yield server


def test_a_request_reaches_its_tenant(server: Server) -> None:
    reply = server.request("POST", "/any/path?a=b", user="tenant", body='[["bindings"]]')

    assert (reply.status, reply.json()) == (200, [{"ok": {}}])
    assert reply.headers["content-type"] == "application/json"


def test_each_answer_has_an_id_of_its_own(server: Server) -> None:
    ids = {server.request("POST", "/", user=user, body="[]").headers["x-request-id"] for user in ("tenant", "x") * 3}

    assert len(ids) == 6


def test_without_the_header_is_400(server: Server) -> None:
    for user in (None, ""):
        reply = server.request("GET", "/", user=user)
        assert (reply.status, reply.text) == (400, "Missing X-User-ID header")


def test_two_names_are_refused(server: Server) -> None:
    answer = server.exchange(
        b"GET / HTTP/1.1\r\nHost: a\r\nX-User-ID: tenant\r\nx-user-id: other\r\nConnection: close\r\n\r\n"
    )

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"more than one X-User-ID header" in answer


@pytest.mark.parametrize("user", ["nobody", "Tenant", "tenant/..", "é", "x" * 4000])
def test_an_unknown_tenant_is_404(server: Server, user: str) -> None:
    reply = server.request("GET", "/", user=user)

    assert (reply.status, reply.json()) == (404, {"error": "Worker not found", "code": "worker_not_found"})


def test_an_uncaught_exception_is_500_without_its_details(server: Server) -> None:
    reply = server.request("POST", "/", user="tenant", body="this is not JSON and a secret")

    assert (reply.status, reply.json()["code"]) in ((500, "exception"), (500, "trap"))
    assert "secret" not in reply.text
    assert "Traceback" not in reply.text
    assert server.request("POST", "/", user="tenant", body="[]").status == 200


def test_a_body_over_the_limit_is_413(server: Server) -> None:
    reply = server.request("POST", "/", user="tenant", body=json.dumps([["keep", "x" * 200_000]]))

    assert (reply.status, reply.json()["code"]) == (413, "body_too_large")


def test_a_chunked_body_over_the_limit_is_413(server: Server) -> None:
    answer = server.exchange(
        b"POST / HTTP/1.1\r\nHost: a\r\nX-User-ID: tenant\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"%x\r\n%b\r\n0\r\n\r\n" % (200_000, b"x" * 200_000),
    )

    assert answer.startswith(b"HTTP/1.1 413 ")


def test_connect_is_not_served(server: Server) -> None:
    answer = server.exchange(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nX-User-ID: tenant\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize(
    "smuggled",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nX-User-ID: tenant\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nX-User-ID: tenant\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nX-User-ID: tenant\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nX-User-ID: tenant\r\nContent-Length: +2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nX-User-ID: tenant\r\nContent-Length : 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nX-User-ID: tenant\r\nTransfer-Encoding : chunked\r\n\r\n",
    ],
)
def test_a_request_with_two_lengths_is_refused_and_ends_the_connection(server: Server, smuggled: bytes) -> None:
    answer = server.exchange(smuggled + b"[]GET /second HTTP/1.1\r\nHost: a\r\nX-User-ID: tenant\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


# What a tenant answers, and what of it reaches the caller


def test_repeated_headers_pass_and_framing_does_not(server: Server) -> None:
    answer = server.exchange(b"GET /cookies HTTP/1.1\r\nHost: a\r\nX-User-ID: sdk\r\nConnection: close\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == b"x"
    assert head.count(b"set-cookie: ") == 2
    assert head.lower().count(b"content-length: ") == 1
    assert b"content-length: 1\r\n" in head


@pytest.mark.parametrize("status", [0, 1, 100, 101, 199, 600, 999])
def test_a_status_that_is_none_is_an_error(server: Server, status: int) -> None:
    reply = server.request("GET", f"/bad-status?{status}", user="sdk")

    assert reply.status in (500, 502)
    assert "error" in reply.json()


@pytest.mark.parametrize("header", ["a b: c", "a: b\r", "a: \x00", ": x", "x", "é: x", "a: b\n\nHTTP/1.1 200 OK"])
def test_a_header_that_would_break_the_answer_is_an_error(server: Server, header: str) -> None:
    reply = server.request("POST", "/bad-header", user="sdk", body=header)

    assert (reply.status, reply.json()["code"]) == (502, "invalid_answer")


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_a_generated_body_streams(server: Server, count: int) -> None:
    reply = server.request("GET", f"/streamed?{count}", user="sdk")

    assert reply.status == 200
    assert reply.body == b"".join(bytes([n % 256]) * 1000 for n in range(count))


def test_a_generated_body_that_breaks_off_is_seen_to(server: Server) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        server.request("GET", "/broken", user="sdk")


@pytest.mark.parametrize("size", [1, 3000, 70_000])
def test_a_body_can_be_sent_back(server: Server, size: int) -> None:
    content = os.urandom(size)

    reply = server.request("PATCH", "/echo", user="sdk", body=content)

    assert reply.body == content
    assert (reply.headers["x-method"], reply.headers["x-length"]) == ("PATCH", str(size))


def test_an_uncaught_exception_of_the_sdk_is_500_without_its_message(server: Server) -> None:
    reply = server.request("GET", "/fail", user="sdk")

    assert (reply.status, reply.json()) == (500, {"error": "The worker threw an exception.", "code": "exception"})


def test_an_endless_loop_ends_at_the_limit_and_harms_nobody(server: Server) -> None:
    reply = server.request("GET", "/loop", user="sdk")

    assert (reply.status, reply.json()["code"]) == (503, "limit.cpu")
    assert server.request("GET", "/", user="sdk").status == 200


def test_a_tenant_that_is_full_answers_503_and_says_when_to_come_back(server: Server) -> None:
    component = build(GUESTS / "rpc_worker", wit_directory=WIT_DIRECTORY).read_bytes()
    server.deploy("full", component, limits={"cpu_ms": 300, "instances_max": 1, "queue_max": 0})

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: server.request("GET", "/loop", user="full"), range(8)))

    refused = [reply for reply in replies if reply.json()["code"] == "limit.queue"]
    assert {reply.status for reply in replies} == {503}
    assert refused
    assert {reply.headers["retry-after"] for reply in refused} == {"1"}


def test_what_a_tenant_prints_is_in_the_log_under_its_name_and_the_requests_id(server: Server) -> None:
    reply = server.request("POST", "/", user="tenant", body="not JSON either")

    own: list[dict[str, object]] = []
    while {entry["logger"] for entry in own} != {"tenant", "access"}:
        # The access line follows the answer.
        time.sleep(0.01)
        entries = [json.loads(line) for line in server.log.read_text().splitlines()]
        own = [entry for entry in entries if entry.get("request") == reply.headers["x-request-id"]]
    assert {entry["tenant"] for entry in own} == {"tenant"}
    access = next(entry for entry in own if entry["logger"] == "access")
    assert access["status"] == 500
