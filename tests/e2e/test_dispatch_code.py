"""The operator's dispatch code and the stubs that it gets: calls, streams, answers, errors."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from guest_sdk.build import build
from host_bindings import WIT_DIRECTORY
from tests.components import GUESTS
from tests.e2e.server import Server, start, wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    component = build(GUESTS / "rpc_worker", wit_directory=WIT_DIRECTORY).read_bytes()
    directory = tmp_path_factory.mktemp("dispatch-code") / "data"
    with start(directory, dispatcher=Path(__file__).parent / "rpc_dispatcher") as server:
        deployed = server.deploy("tenant", component, limits={"cpu_ms": 300})
        assert deployed.status == 200, deployed.text
        yield server


def call(server: Server, method: str, *args: object, **kwargs: object) -> Any:
    reply = server.request("POST", f"/call?method={method}", user="tenant", json={"args": args, "kwargs": kwargs})
    assert reply.status == 200, reply.text
    return reply.json()


@pytest.mark.parametrize(
    "value", [None, True, 0, -5, 2**53 + 1, 1.5, "", "ü\u2028😀", [], [1, [2, {"a": None}]], {"$x": 1}]
)
def test_arguments_and_results_are_json_like_values(server: Server, value: object) -> None:
    assert call(server, "echo", value, 1, name=value) == {"result": {"args": [value, 1], "kwargs": {"name": value}}}


def test_a_method_may_wait_and_have_defaults(server: Server) -> None:
    assert call(server, "wait_and_add", 1) == {"result": 11}
    assert call(server, "wait_and_add", 1, b=2) == {"result": 3}
    assert call(server, "nothing") == {"result": None}


def test_values_that_json_does_not_have_come_through(server: Server) -> None:
    assert server.request("GET", "/values", user="tenant").json() == []


@pytest.mark.parametrize("size", [1, 5000, 70_000, 3_000_000])
def test_a_body_streams_to_a_method(server: Server, size: int) -> None:
    reply = server.request("POST", "/upload?method=length", user="tenant", body=b"\xff" * size)

    assert (reply.status, reply.json()) == (200, {"result": size})


@pytest.mark.parametrize("size", [1, 70_000, 3_000_000])
def test_a_body_goes_through_a_method_and_back(server: Server, size: int) -> None:
    content = os.urandom(size)

    reply = server.request("POST", "/through", user="tenant", body=content)

    assert (reply.status, reply.body) == (200, content)


@pytest.mark.parametrize("count", [0, 1, 3000, 200_000])
def test_bytes_come_back_from_a_method(server: Server, count: int) -> None:
    reply = server.request("GET", f"/download?method=numbers&count={count}", user="tenant")

    assert reply.body == bytes(n % 256 for n in range(count))


def test_a_response_comes_back_from_a_method(server: Server) -> None:
    reply = server.request("GET", "/answer", user="tenant")

    assert (reply.status, reply.text, reply.headers["x-answer"]) == (201, "text of the answer", "yes")


def test_an_exception_of_the_worker_has_its_name_and_message_and_nothing_of_the_host(server: Server) -> None:
    assert call(server, "fail", "what went wrong") == {"error": ["CustomError", "what went wrong", "what went wrong"]}


@pytest.mark.parametrize("method", ["unknown", "fetch_", "value", "__init__", "ctx", "env"])
def test_what_is_no_public_method_does_not_exist(server: Server, method: str) -> None:
    reply = server.request("POST", f"/call?method={quote(method)}", user="tenant", json={})

    if method.startswith("_"):
        assert reply.status == 500
    else:
        name, message, _ = reply.json()["error"]
        assert (name, message) == ("TypeError", f"Method {method} does not exist")


def test_a_private_method_is_not_called(server: Server) -> None:
    assert "not public" in server.request("GET", "/private", user="tenant").text


def test_a_result_that_cannot_be_sent_is_an_error(server: Server) -> None:
    name, message, _ = call(server, "unsendable")["error"]

    assert name == "TypeError"
    assert "object" in message


@pytest.mark.parametrize("by", ["fetch", "call"])
def test_a_missing_script_is_an_error_when_it_is_called(server: Server, by: str) -> None:
    assert server.request("GET", f"/missing?by={by}", user="tenant").text.startswith("Worker not found")


def test_a_missing_script_that_nobody_catches_is_404(server: Server) -> None:
    reply = server.request("POST", "/call?method=x", user="nobody", json={})

    assert (reply.status, reply.json()["error"]) == (404, "Worker not found")


def test_a_request_can_be_forwarded(server: Server) -> None:
    reply = server.request("DELETE", "/forward?a=b", user="tenant")

    assert reply.json() == {"method": "DELETE", "url": f"http://127.0.0.1:{server.port}/forward?a=b", "user": "tenant"}


def test_a_new_request_can_be_made(server: Server) -> None:
    reply = server.request("GET", "/forward-new?path=inner", user="tenant")

    assert reply.json() == {"method": "PUT", "url": "http://inside/inner", "user": "new"}


def test_work_may_go_on_after_the_answer(server: Server) -> None:
    assert server.request("GET", "/after", user="tenant").text == "done"


def test_the_code_is_cancelled_when_its_caller_leaves(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as caller:
        caller.sendall(b"GET /wait?name=one HTTP/1.1\r\nHost: a\r\nX-User-ID: tenant\r\n\r\n")
        # The head has been read by the time another request on the same event loop is answered.
        assert server.request("GET", "/left", user="tenant").json() == []

    wait_until(lambda: server.request("GET", "/left", user="tenant").json() == ["one"], "the code goes on")


@pytest.mark.parametrize("action", ["uncaught", "no-response", "no-such-action"])
def test_a_fault_of_the_dispatch_code_is_500_without_its_details(server: Server, action: str) -> None:
    reply = server.request("GET", f"/{action}", user="tenant")

    assert (reply.status, reply.json()["code"]) == (500, "internal")
    assert "secret" not in reply.text
    while f"Request {reply.headers['x-request-id']} failed" not in server.log.read_text():
        time.sleep(0.01)
