"""Tenants in groups: a server faces the callers, and one behind it has the tenants that are trusted less."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from guest_sdk.build import build
from host_bindings import WIT_DIRECTORY
from host_bindings.confinement import available
from tests.components import GUESTS
from tests.e2e.server import Server, start, wait_until

MIB = 1024 * 1024
SECRET = "a secret of at least thirty-two bytes"

DISPATCH_CODE = """
from urllib.parse import parse_qs, urlsplit
from workers import Response

async def fetch(request, env):
    asked = parse_qs(urlsplit(request.url).query)
    if "read" in asked:
        try:
            return Response(open(asked["read"][0], "rb").read(10))
        except OSError as error:
            return Response(type(error).__name__)
    return Response("the dispatch code of the group in front")
"""


@pytest.fixture(scope="module")
def component() -> bytes:
    return build(GUESTS / "rpc_worker", wit_directory=WIT_DIRECTORY).read_bytes()


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory, component: bytes) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("behind") / "data"
    with start(data, trusted_proxies="127.0.0.1", request_body_bytes_max=20 * MIB) as server:
        reply = server.deploy("stranger", component)
        assert reply.status == 200, reply.text
        yield server


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, component: bytes, behind: Server) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("front") / "data"
    with start(data, upstream=f"http://127.0.0.1:{behind.port}", request_body_bytes_max=10 * MIB) as server:
        reply = server.deploy("friend", component)
        assert reply.status == 200, reply.text
        yield server


def access_lines(server: Server) -> list[dict[str, object]]:
    entries = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry.get("logger") == "access"]


def outcomes(server: Server, tenant: str) -> list[object]:
    """Of the requests for a tenant, as the access log has them: a little later than they are answered."""
    return [line["outcome"] for line in access_lines(server) if line["tenant"] == tenant]


def test_each_tenant_is_answered_where_it_is_deployed(front: Server, behind: Server) -> None:
    for user in ("friend", "stranger"):
        reply = front.request("GET", "/", user=user)
        assert (reply.status, reply.json()["user"]) == (200, user)

    wait_until(lambda: "ok" in outcomes(behind, "stranger"), "the request has left no line")
    assert outcomes(behind, "friend") == []
    wait_until(lambda: "forwarded" in outcomes(front, "stranger"), "the request has left no line")
    assert outcomes(front, "friend") == ["ok"]


def test_a_tenant_that_is_nobodys_is_404(front: Server, behind: Server) -> None:
    reply = front.request("GET", "/", user="nobody")

    assert (reply.status, reply.json()["code"]) == (404, "worker_not_found")
    wait_until(lambda: outcomes(behind, "nobody") == ["scriptNotFound"], "the request has left no line")


@pytest.mark.parametrize("name", ["STRANGER", "../stranger", "stranger_", "é", "x" * 100])
def test_what_cannot_be_a_tenants_name_is_not_passed_on(front: Server, name: str) -> None:
    reply = front.request("GET", "/", user=None, headers={"X-User-ID": name.encode().decode("latin-1")})

    assert reply.status == 404
    wait_until(lambda: access_lines(front)[-1]["outcome"] == "scriptNotFound", "the request has left no line")


def test_a_request_arrives_as_it_was_sent(front: Server, behind: Server) -> None:
    request = (
        b"GET //a/../%%2e%%2F;x=1/headers?q=%%zz&b=+%%20 HTTP/1.1\r\nHost: shop.example:81\r\nX-User-ID: stranger\r\n"
        b"Cookie: a=1\r\nCookie: b=2\r\nX-Twice: 1\r\nX-Twice: 2\r\n"
        b"X-Text: \xc3\xa9\xc2\x85x-user-id: friend\r\nAccept-Encoding: br\r\n"
        b"%bConnection: x-gone, close\r\nX-Gone: 1\r\n\r\n"
    )

    direct = behind.exchange(request % b"Via: 1.1 cloister\r\n").partition(b"\r\n\r\n")[2]
    forwarded = front.exchange(request % b"").partition(b"\r\n\r\n")[2]

    assert json.loads(forwarded) == json.loads(direct)
    assert json.loads(forwarded)["headers"]["via"] == "1.1 cloister"


def test_an_absolute_target_names_the_host(front: Server) -> None:
    request = (
        b"GET http://shop.example/a/headers?b HTTP/1.1\r\nHost: x\r\nX-User-ID: stranger\r\nConnection: close\r\n\r\n"
    )

    seen = json.loads(front.exchange(request).partition(b"\r\n\r\n")[2])

    assert (seen["url"], seen["headers"]["host"]) == ("http://shop.example/a/headers?b", "shop.example")


def test_a_target_that_is_no_text_is_refused(front: Server) -> None:
    answer = front.exchange(b"GET /\xff HTTP/1.1\r\nHost: x\r\nX-User-ID: stranger\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("path", ["/cookies", "/bad-status?302", "/bad-status?204", "/bad-status?599", "/fail", "/"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PROPFIND"])
def test_an_answer_comes_back_as_it_was(front: Server, behind: Server, method: str, path: str) -> None:
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-User-ID: stranger\r\nConnection: close\r\n\r\n".encode()

    answers = []
    for server in (behind, front):
        head, _, body = server.exchange(request).partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"date:", b"x-request-id:"))]
        answers.append((sorted(lines), body))

    assert answers[0] == answers[1]


@pytest.mark.parametrize("chunked", [False, True])
def test_large_bodies_pass_in_both_directions(front: Server, chunked: bool) -> None:
    content = os.urandom(5 * MIB)
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=60)
    pieces = iter([content[:MIB], content[MIB:]])

    connection.request(
        "PUT",
        "/echo",
        body=pieces if chunked else content,
        headers={"X-User-ID": "stranger"} | ({} if chunked else {"Content-Length": str(len(content))}),
        encode_chunked=chunked,
    )
    answer = connection.getresponse()

    assert answer.read() == content
    assert answer.getheader("x-length") == str(None if chunked else len(content))
    connection.close()


def test_a_body_that_is_too_large_is_refused(front: Server) -> None:
    reply = front.request("POST", "/echo", user="stranger", body=bytes(11 * MIB))

    assert (reply.status, reply.json()["code"]) == (413, "body_too_large")


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(front: Server) -> None:
    answer = front.exchange(b"GET /broken HTTP/1.1\r\nHost: x\r\nX-User-ID: stranger\r\nConnection: close\r\n\r\n")

    # A reset overtakes what was sent before it: the server in front may not have seen the answer's head.
    assert not answer.endswith(b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502 ") or b"\r\ntransfer-encoding: chunked\r\n" in answer or not answer


def test_a_caller_that_leaves_ends_the_work_behind(front: Server, behind: Server) -> None:
    caller = socket.create_connection(("127.0.0.1", front.port), timeout=60)
    caller.sendall(b"GET /streamed?1000000000 HTTP/1.1\r\nHost: x\r\nX-User-ID: stranger\r\n\r\n")
    assert caller.recv(1000).startswith(b"HTTP/1.1 200 ")

    caller.close()

    wait_until(lambda: "canceled" in outcomes(behind, "stranger"), "the worker's call goes on")


def test_a_request_that_goes_in_circles_ends(front: Server) -> None:
    hops = ", ".join(["1.1 cloister"] * 8)

    reply = front.request("GET", "/", user="stranger", headers={"Via": hops})

    assert (reply.status, reply.json()["code"]) == (508, "upstream_loop")
    assert front.request("GET", "/", user="stranger", headers={"Via": "1.1 other, 1.0 cloister"}).status == 200


def test_credentials_stay_in_front(component: bytes, behind: Server, tmp_path: Path) -> None:
    key = tmp_path / "jwt.secret"
    key.write_text(SECRET)
    token = jwt.encode({"sub": "stranger", "exp": 32_000_000_000}, SECRET, "HS256")
    upstream = f"http://127.0.0.1:{behind.port}"

    with start(tmp_path / "data", resolver="jwt", jwt_algorithm="HS256", jwt_key_file=key, upstream=upstream) as front:
        forged = front.request("GET", "/headers", user="stranger")
        reply = front.request("GET", "/headers", user="other", headers={"Authorization": f"Bearer {token}"})

    assert forged.status == 401
    assert reply.json()["headers"]["x-user-id"] == "stranger"
    assert "authorization" not in reply.json()["headers"]


def test_a_server_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with start(tmp_path / "data", upstream=f"http://127.0.0.1:{port}") as front:
        reply = front.request("GET", "/", user="stranger")

    assert (reply.status, reply.json()["code"]) == (503, "upstream_unavailable")
    assert reply.headers["retry-after"] == "1"


def test_a_body_is_never_sent_twice(tmp_path: Path) -> None:
    """A client may try a PUT again when a kept connection was closed: not with a body that it has not any more."""
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                # The first request has its answer, the second finds the connection closed after its body.
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                received.append(connection.recv(65536))

    threading.Thread(target=serve, daemon=True).start()
    try:
        with start(tmp_path / "data", upstream=f"http://127.0.0.1:{listener.getsockname()[1]}") as front:
            first = front.request("GET", "/", user="stranger")
            connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=60)
            connection.request(
                "PUT", "/", body=iter([b"content"]), headers={"X-User-ID": "stranger"}, encode_chunked=True
            )
            with connection.getresponse() as second:
                content = json.loads(second.read())
            connection.close()
    finally:
        listener.close()

    assert (first.status, first.text) == (200, "ok")
    assert (second.status, content["code"]) == (502, "upstream_failed")
    assert len(received) == 1


needs_confinement = pytest.mark.skipif(
    not available().is_whole, reason=f"this kernel cannot confine processes ({available()})"
)


@needs_confinement
def test_a_confined_server_reaches_the_one_behind(behind: Server, tmp_path: Path) -> None:
    upstream = f"http://127.0.0.1:{behind.port}"

    with start(tmp_path / "data", supervised=True, confinement="require", upstream=upstream) as front:
        reply = front.request("GET", "/", user="stranger")

    assert (reply.status, reply.json()["user"]) == (200, "stranger")


@needs_confinement
def test_code_inside_of_one_group_cannot_read_another_groups_data(behind: Server, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "dispatcher.py").write_text(DISPATCH_CODE)
    upstream = f"http://127.0.0.1:{behind.port}"

    with start(
        tmp_path / "data", supervised=True, confinement="require", dispatcher=tmp_path / "code", upstream=upstream
    ) as front:
        own = front.request("GET", f"/?read={front.data / 'registry.sqlite'}", user=None)
        other = front.request("GET", f"/?read={behind.data / 'registry.sqlite'}", user=None)
        page = front.request("GET", "/", user=None)
        forwarded = front.request("GET", "/", user="stranger")

    assert (own.text, other.text) == ("SQLite for", "PermissionError")
    assert page.text == "the dispatch code of the group in front"
    assert (forwarded.status, forwarded.json()["user"]) == (200, "stranger")
