"""The server under test: the real `cloister serve` in a process of its own, deployed to through its management API."""

from __future__ import annotations

import functools
import http.client
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers import Server, free_port, running
from guest_sdk.build import build, read_configuration
from host_bindings import WIT_DIRECTORY

ROOT = Path(__file__).parents[1]
WORKERS = Path(__file__).parent / "workers"
DEMO_TENANTS = (ROOT / "tenants" / "customer-worker-1", ROOT / "tenants" / "customer-worker-2")
SCRIPTS = "/client/v4/accounts/local/workers/dispatch/namespaces/production/scripts"
ANSWER_S = 300.0


@dataclass(frozen=True)
class Cloister(Server):
    """A running `cloister serve`. `url` is the tenants' port."""

    port: int
    admin_port: int
    data: Path
    token: str = field(repr=False)

    def deploy(
        self,
        name: str,
        component: bytes,
        *,
        bindings: Sequence[Mapping[str, Any]] = (),
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        """Uploads a component. Raises RuntimeError if the server refuses it."""
        boundary = secrets.token_hex(16)
        metadata = json.dumps({"main_module": "worker.wasm", "bindings": list(bindings), "limits": dict(limits or {})})
        body = b"".join(
            (
                f'--{boundary}\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{metadata}\r\n'.encode(),
                f'--{boundary}\r\nContent-Disposition: form-data; name="worker.wasm"; filename="worker.wasm"\r\n'
                "Content-Type: application/wasm\r\n\r\n".encode(),
                component,
                f"\r\n--{boundary}--\r\n".encode(),
            )
        )
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=ANSWER_S)
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": f"multipart/form-data; boundary={boundary}",
        }
        try:
            connection.request("PUT", f"{SCRIPTS}/{name}", body, headers)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"deploying {name}: {answer.status} {said[:500]!r}")

    def deploy_directory(self, directory: Path, *, limits: Mapping[str, Any] | None = None) -> str:
        """Builds a worker (from the cache, if it can) and deploys it under its configured name, which is returned."""
        configuration = read_configuration(directory)
        self.deploy(
            configuration.name,
            built(directory).read_bytes(),
            bindings=list(configuration.bindings),
            limits={**configuration.limits, **(limits or {})},
        )
        return configuration.name

    def request(
        self, path: str, *, user: str, method: str = "GET", body: bytes | None = None, content_type: str = "text/plain"
    ) -> tuple[bytes, float]:
        """One request on a connection of its own: the answer and ms to its first byte. Raises RuntimeError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        try:
            connection.connect()
            started = time.perf_counter()
            connection.request(method, path, body, {"X-User-ID": user, "Content-Type": content_type})
            answer = connection.getresponse()
            first_byte_ms = (time.perf_counter() - started) * 1000
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
        return content, first_byte_ms


@functools.cache
def _compiled() -> tempfile.TemporaryDirectory[str]:
    """A data directory in which each worker of the benchmark has been deployed once; gone when the run is.

    Its machine code spares every other server the seconds of the first deploy, which has a case of its own.
    """
    directories = [*sorted(path for path in WORKERS.iterdir() if path.is_dir()), *DEMO_TENANTS[:1]]
    with ThreadPoolExecutor(2) as builders:
        list(builders.map(built, directories))
    made = tempfile.TemporaryDirectory(prefix="cloister-bench-")
    with cloister(data=Path(made.name), empty=True) as server:
        for directory in directories:
            server.deploy_directory(directory)
    return made


def built(directory: Path) -> Path:
    """The component of a worker's directory."""
    return build(directory, wit_directory=WIT_DIRECTORY)


@contextmanager
def cloister(
    *,
    dispatcher: bool = False,
    data: Path | None = None,
    empty: bool = False,
    settings: Mapping[str, object] | None = None,
) -> Iterator[Cloister]:
    """`cloister serve` on free ports, with the reference platform's dispatch code if `dispatcher`.

    Its data is in a temporary folder, or in `data`. No access log, since no peer writes one; the case access-log shows
    what it costs. Unless it is to be `empty`, a new data directory has the machine code of the benchmark's workers, and
    deploying those is quick. `settings` are others by their names.
    """
    port, admin_port = free_port(), free_port()
    token = secrets.token_urlsafe(24)
    with ExitStack() as stack:
        if data is None:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cloister-bench-")))
        if not empty and not (data / "artifacts").exists():
            shutil.copytree(Path(_compiled().name) / "artifacts", data / "artifacts")
        command = [str(Path(sys.executable).parent / "cloister"), "serve"]
        if dispatcher:
            command += ["--dispatcher", str(ROOT / "examples" / "binding_dispatcher")]
        values: dict[str, object] = {
            "port": port,
            "admin_port": admin_port,
            "admin_token": token,
            "data": data,
            "access_log": "off",
            "log_format": "json",
        } | dict(settings or {})
        inherited = {name: "" for name in os.environ if name.startswith("CLOISTER_")}
        environment = inherited | {f"CLOISTER_{name.upper()}": str(value) for name, value in values.items()}
        server = stack.enter_context(running(command, port, environment, admin_port=admin_port))
        yield Cloister(server.url, server.pid, port, admin_port, data, token)
