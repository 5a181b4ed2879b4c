"""One server for all clients, and a worker that shows what it is bound to, which each test deploys by its own name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from guest_sdk.build import build
from host_bindings import WIT_DIRECTORY
from tests.e2e.server import ROOT, TOKEN, start

PLATFORM = "CLOISTER_TEST_PLATFORM"
"""Where a server is that another test process has started: admin port, port, token and component, with commas."""


@dataclass(frozen=True)
class Platform:
    """A running server, as its clients know it, and a component to upload."""

    admin_port: int
    port: int
    token: str
    component: Path

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}/client/v4"

    def answer(self, script: str, path: str) -> str:
        """What a script says to a request on the tenants' port."""
        request = Request(f"http://127.0.0.1:{self.port}{path}", headers={"X-User-ID": script})
        with urlopen(request, timeout=60) as response:
            return str(response.read().decode())

    def call(self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json") -> Any:
        """The envelope that the management API answers with."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        with urlopen(Request(self.base_url + path, body, headers, method=method), timeout=300) as response:
            return json.loads(response.read())

    @property
    def variable(self) -> str:
        return f"{self.admin_port},{self.port},{self.token},{self.component}"


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    if PLATFORM in os.environ:
        admin_port, port, token, component = os.environ[PLATFORM].split(",", 3)
        yield Platform(int(admin_port), int(port), token, Path(component))
        return
    component = build(ROOT / "tests/guests/storage_worker", wit_directory=WIT_DIRECTORY)
    with start(tmp_path_factory.mktemp("clients") / "data") as server:
        yield Platform(server.admin_port, server.port, TOKEN, component)
