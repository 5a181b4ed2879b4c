"""Large bodies pass through in pieces, in both directions."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
from collections.abc import Iterator

from tests.e2e.server import Server, field, file, multipart

MIB = 1024 * 1024
CONTENT = os.urandom(10 * MIB)


def memory_bytes(server: Server) -> int:
    """What the server's process keeps for itself; pages of mapped files that instances share do not count."""
    with open(f"/proc/{server.process.pid}/status") as status:
        line = next(line for line in status if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def test_10_mib_go_up_and_come_down_as_they_were(platform: Server) -> None:
    stored = platform.upload_file("streaming/large", CONTENT, content_type="application/octet-stream")
    reply = platform.request("GET", "/files?key=streaming/large")

    assert stored.json() == {"success": True, "key": "streaming/large", "size": 10 * MIB}
    assert reply.headers["content-length"] == str(10 * MIB)
    assert reply.headers["etag"] == f'"{hashlib.md5(CONTENT).hexdigest()}"'
    assert reply.body == CONTENT


def test_a_range_of_a_large_file_is_read_alone(platform: Server) -> None:
    platform.upload_file("streaming/large", CONTENT)

    reply = platform.request("GET", "/files?key=streaming/large", headers={"Range": f"bytes={5 * MIB}-{6 * MIB - 1}"})

    assert reply.status == 206
    assert reply.body == CONTENT[5 * MIB : 6 * MIB]


def test_a_chunked_upload_is_taken(platform: Server) -> None:
    body, content_type = multipart([field("key", "streaming/chunked"), file("file", "a", CONTENT[: 3 * MIB], None)])

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=60)
    connection.request(
        "POST",
        "/files",
        body=pieces(),
        headers={"X-User-ID": "user1", "Content-Type": content_type},
        encode_chunked=True,
    )
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b'{"success": true, "key": "streaming/chunked", "size": 3145728}')
    connection.close()
    assert platform.request("GET", "/files?key=streaming/chunked").body == CONTENT[: 3 * MIB]


def test_the_key_may_follow_the_file(platform: Server) -> None:
    body, content_type = multipart([file("file", "a", CONTENT[:MIB], "text/plain"), field("key", "streaming/late")])

    reply = platform.request("POST", "/files", headers={"Content-Type": content_type}, body=body)

    assert reply.json()["size"] == MIB
    assert platform.request("GET", "/files?key=streaming/late").body == CONTENT[:MIB]


def test_many_large_downloads_do_not_fill_memory(platform: Server) -> None:
    """Callers that do not read hold up their own answers, and the server keeps little of each."""
    platform.upload_file("streaming/large", CONTENT)
    platform.request("GET", "/files?key=streaming/large")
    before = memory_bytes(platform)
    callers = []
    for _ in range(16):
        caller = socket.create_connection(("127.0.0.1", platform.port))
        caller.sendall(b"GET /files?key=streaming/large HTTP/1.1\r\nHost: a\r\nX-User-ID: user1\r\n\r\n")
        callers.append(caller)
    for caller in callers:
        assert caller.recv(100).startswith(b"HTTP/1.1 200 OK")

    grown = memory_bytes(platform) - before
    for caller in callers:
        caller.close()

    # 10 MiB are asked for each; a caller may hold up a few pieces, and needs an instance of its own for a moment.
    assert grown < 16 * 6 * MIB


def test_an_upload_that_breaks_off_stores_nothing(platform: Server) -> None:
    body, content_type = multipart([field("key", "streaming/broken"), file("file", "a", CONTENT[:MIB], None)])
    caller = socket.create_connection(("127.0.0.1", platform.port))
    caller.sendall(
        b"POST /files HTTP/1.1\r\nHost: a\r\nX-User-ID: user1\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
        % (content_type.encode(), len(body))
    )
    caller.sendall(body[: MIB // 2])
    caller.close()

    assert platform.request("GET", "/files?key=streaming/broken").status == 404
    assert platform.request("GET", "/").status == 200


def test_a_body_over_the_limit_is_413(platform: Server) -> None:
    caller = socket.create_connection(("127.0.0.1", platform.port))
    caller.sendall(
        b"POST /files HTTP/1.1\r\nHost: a\r\nX-User-ID: user1\r\nContent-Type: multipart/form-data; boundary=a\r\n"
        b"Content-Length: 99999999999\r\n\r\n"
    )

    assert caller.recv(100).startswith(b"HTTP/1.1 413 ")
    caller.close()
