"""A real server in a process of its own, and a caller that speaks HTTP to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guest_sdk.build import build
from host_bindings import WIT_DIRECTORY
from tests.compiled import seed_artifacts
from tests.components import GUESTS

ROOT = Path(__file__).parents[2]
START_S = 60
STOP_S = 30
ANSWER_S = 300
"""An upload of a large component to a busy machine takes its time."""
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

    def __init__(self, process: subprocess.Popen[bytes], data: Path, port: int, admin_port: int, log: Path) -> None:
        self.process = process
        self.data = data
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

    def exchange(self, request: bytes) -> bytes:
        """What comes back on the tenants' port, to the connection's end, for bytes on the wire."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as caller:
            caller.sendall(request)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := caller.recv(65536):
                    answer += piece
            return answer

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

    @property
    def processes(self) -> list[int]:
        """The process ids of the server processes, if it was started `supervised`."""
        return children(self.process.pid)

    def serving(self, connection: socket.socket) -> int:
        """The id of the server process that has accepted a connection."""
        ours, theirs = connection.getsockname()[1], connection.getpeername()[1]
        inode = _inode(theirs, ours)
        for pid in self.processes:
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if os.readlink(link) == f"socket:[{inode}]":
                        return pid
        raise AssertionError("no server process has this connection")

    def logged(self, message: str) -> list[dict[str, Any]]:
        """The entries of the log with this message."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.startswith("{")]
        return [entry for line in lines if (entry := json.loads(line)).get("message") == message]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and waits for the end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)


def children(process: int) -> list[int]:
    """The ids of the processes that a process's main thread has started."""
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def wait_until(holds: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Returns when it holds. Raises AssertionError if it never does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def _inode(local_port: int, remote_port: int) -> str:
    """Of the loopback connection's socket with these ports, seen from the side of `local_port`."""
    wanted = (f"0100007F:{local_port:04X}", f"0100007F:{remote_port:04X}")
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if (fields[1], fields[2]) == wanted:
            return fields[9]
    raise AssertionError("there is no such connection")


ALONE = "from runtime import server, settings; server.run(settings.read_settings())"
SUPERVISED = (
    "from runtime import settings; from runtime.supervisor import supervisor; supervisor.run(settings.read_settings())"
)


@contextmanager
def start(
    data: Path,
    *,
    supervised: bool = False,
    under: Sequence[str] = (),
    compiled: bool = True,
    **settings: object,
) -> Iterator[Server]:
    """Starts a server on free ports with its data in `data`; ends it if it still runs.

    What Python workers share has been compiled for it, unless it is not to be `compiled`.

    It is one process alone, or, `supervised`, a supervisor with server processes as `cloister serve` makes them.
    `under` is a command to run it under.
    """
    if compiled:
        seed_artifacts(data, _compile)
    with launch(data, supervised=supervised, under=under, **settings) as (process, log):
        port, admin_port = _ports(process, log)
        yield Server(process, data, port, admin_port, log)


@contextmanager
def launch(
    data: Path, *, supervised: bool = False, under: Sequence[str] = (), **settings: object
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The process that `start` waits for, and its log."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLOISTER_")}
    values = {"data": data, "port": 0, "admin_port": 0, "admin_token": TOKEN, "log_format": "json"} | settings
    environment |= {f"CLOISTER_{name.upper()}": str(value) for name, value in values.items()}
    log = data.with_name(f"{data.name}-{secrets.token_hex(4)}.log")
    command = [*under, sys.executable, "-W", "error", "-c", SUPERVISED if supervised else ALONE]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        yield process, log
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _compile(data: Path) -> None:
    component = build(GUESTS / "rpc_worker", wit_directory=WIT_DIRECTORY).read_bytes()
    with start(data, compiled=False) as server:
        reply = server.deploy("tenant", component)
        assert reply.status == 200, reply.text
        assert server.stop() == 0


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
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
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
