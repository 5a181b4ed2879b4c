"""What is no request, on the admin port: answered in the envelope that every other error has."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.runtime.control.service import Answer, Control, RunControl

BROKEN_BODY = b"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\nnot a chunk\r\n"


async def answer_to(control: Control, sent: bytes) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
    try:
        writer.write(sent)
        async with asyncio.timeout(20):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status_line, *lines = head.split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            body = await reader.readexactly(int(headers["content-length"]))
            assert await reader.read() == b"", "the connection was not closed"
        return Answer(int(status_line.split()[1]), headers, body.decode())
    finally:
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad name: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(500)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 5_000) for n in range(14)),
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:40]),
)
def test_what_is_no_request_gets_an_envelope(run_control: RunControl, sent: bytes) -> None:
    async def test(control: Control) -> None:
        answer = await answer_to(control, sent)
        assert answer.status == 400
        assert answer.headers["content-type"] == "application/json"
        assert answer.message.startswith("The request is malformed: ")
        assert answer.message.isprintable()
        assert len(answer.text) < 600

    run_control(test)


def test_a_body_that_is_not_framed_as_it_should_be_is_the_callers_fault(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        token = control.http.headers["Authorization"].encode()
        path = b"/client/v4/accounts/local/workers/dispatch/namespaces"
        head = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: %b\r\n" % (path, token)
        answer = await answer_to(control, head + BROKEN_BODY)
        assert answer.status == 400, answer.text
        assert json.loads(answer.text)["success"] is False

    run_control(test)
