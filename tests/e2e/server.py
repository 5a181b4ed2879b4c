"""A real server in a process of its own, and a caller that speaks HTTP to it."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
START_S = 60
STOP_S = 30
TOKEN = secrets.token_urlsafe(32)
SCRIPTS = "/client/v4/accounts/local/workers/dispatch/namespaces/production/scripts"


@dataclass(frozen=True)
class Reply:
    """An answer. Header names are in lower case; of repeated headers `headers` has the last."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A running server. Made by `start`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, admin_port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.admin_port = admin_port
        self.log = log

    def request(
        self,
        method: str,
        path: str,
        *,
        user: str | None = "user1",
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        json: object = None,
    ) -> Reply:
        """A request on the tenants' port, on a connection of its own."""
        sent = dict(headers or {})
        if user is not None:
            sent["X-User-ID"] = user
        if json is not None:
            body = _json(json)
        return _request(self.port, method, path, sent, body)

    def upload_file(
        self, key: str, content: bytes, *, user: str = "user1", content_type: str | None = "text/plain"
    ) -> Reply:
        body, form_type = multipart([field("key", key), file("file", "a.bin", content, content_type)])
        return self.request("POST", "/files", user=user, headers={"Content-Type": form_type}, body=body)

    def control(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Reply:
        """A request of the management API, with the token."""
        return _request(self.admin_port, method, path, {"Authorization": f"Bearer {TOKEN}", **(headers or {})}, body)

    def deploy(
        self, name: str, component: bytes, bindings: Sequence[Mapping[str, object]] = (), **metadata: object
    ) -> Reply:
        described = {"main_module": "worker.wasm", "bindings": list(bindings), **metadata}
        body, form_type = multipart(
            [
                file("metadata", "", _json(described).encode(), "application/json"),
                file("worker.wasm", "worker.wasm", component, "application/wasm"),
            ]
        )
        return self.control("PUT", f"{SCRIPTS}/{name}", headers={"Content-Type": form_type}, body=body)

    def delete(self, name: str) -> Reply:
        return self.control("DELETE", f"{SCRIPTS}/{name}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and waits for the end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)


@contextmanager
def start(data: Path, **settings: object) -> Iterator[Server]:
    """Starts a server on free ports with its data in `data`; ends it if it still runs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLOISTER_")}
    values = {"data": data, "port": 0, "admin_port": 0, "admin_token": TOKEN, "log_format": "json"} | settings
    environment |= {f"CLOISTER_{name.upper()}": str(value) for name, value in values.items()}
    log = data.with_name(f"{data.name}-{secrets.token_hex(4)}.log")
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        "from runtime import server, settings; server.run(settings.read_settings())",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        port, admin_port = _ports(process, log)
        yield Server(process, port, admin_port, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ports(process: subprocess.Popen[bytes], log: Path) -> tuple[int, int]:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines():
            if '"message":"listening"' in line:
                entry = json.loads(line)
                return entry["port"], entry["admin_port"]
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}:\n{log.read_text()}")
        time.sleep(0.02)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


def _json(value: object) -> str:
    return json.dumps(value)


def _request(port: int, method: str, path: str, headers: Mapping[str, str], body: bytes | str | None) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        data = body.encode() if isinstance(body, str) else body
        connection.request(method, path, body=data, headers=dict(headers))
        with connection.getresponse() as answer:
            content = answer.read()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)
    finally:
        connection.close()


Part = tuple[str, bytes]


def field(name: str, value: str) -> Part:
    return f'Content-Disposition: form-data; name="{name}"\r\n', value.encode()


def file(name: str, filename: str, content: bytes, content_type: str | None) -> Part:
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if filename:
        disposition += f'; filename="{filename}"'
    return disposition + "\r\n" + (f"Content-Type: {content_type}\r\n" if content_type else ""), content


def multipart(parts: Sequence[Part]) -> tuple[bytes, str]:
    """A form's body and its content type."""
    boundary = "cut-" + secrets.token_hex(8)
    body = b"".join(b"--%b\r\n%b\r\n%b\r\n" % (boundary.encode(), head.encode(), data) for head, data in parts)
    return body + b"--%b--\r\n" % boundary.encode(), f"multipart/form-data; boundary={boundary}"
