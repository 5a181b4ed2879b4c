"""What the tests of the dashboard share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from runtime.settings import ServerSettings
from tests.components import raw_component
from tests.runtime.control.service import TOKEN, Answer, Control, serve_control

CSRF = re.compile(r'name="csrf" value="([^"]+)"')

BINDINGS = [
    {"type": "kv_namespace", "name": "KV", "namespace_id": "cache"},
    {"type": "r2_bucket", "name": "R2", "bucket_name": "files"},
    {"type": "d1", "name": "DB", "id": "db"},
]


@dataclass
class Browser:
    """Keeps cookies and follows no redirect, so that the tests see each answer."""

    http: aiohttp.ClientSession
    csrf: str = ""

    async def get(self, path: str, **headers: str) -> Answer:
        return await self._call("GET", path, headers=headers)

    async def post(self, path: str, fields: dict[str, str], **headers: str) -> Answer:
        """A form, with the CSRF token of the last page unless `fields` has another."""
        return await self._call("POST", path, data={"csrf": self.csrf, **fields}, headers=headers)

    async def log_in(self, token: str = TOKEN) -> Answer:
        await self.get("/dashboard/login")
        return await self.post("/dashboard/login", {"token": token})

    async def _call(self, method: str, path: str, **options: Any) -> Answer:
        async with self.http.request(method, path, allow_redirects=False, **options) as response:
            answer = Answer(response.status, response.headers, await response.text())
        found = CSRF.search(answer.text)
        self.csrf = unescape(found[1]) if found else self.csrf
        return answer


@dataclass
class World:
    """A management API with the tenants `acme` and `other`, and a browser that nobody has logged in with."""

    control: Control
    browser: Browser

    async def token(self, tenant: str | None = None, *permissions: str) -> tuple[str, str]:
        """A new token's id and value."""
        body = {"name": "a token", "permissions": list(permissions or ("read", "deploy", "data")), "tenant": tenant}
        made = (await self.control.call("POST", "/client/v4/user/tokens", json=body)).result
        return made["id"], made["value"]


Test = Callable[[World], Awaitable[None]]
RunDashboard = Callable[[Test], None]


@pytest.fixture(scope="session")
def component() -> bytes:
    return raw_component("raw_worker").read_bytes()


@pytest.fixture
def run_dashboard(tmp_path: Path, artifacts_directory: Path, component: bytes) -> RunDashboard:
    """Runs an async test against a dashboard on real parts."""

    def run(test: Test) -> None:
        async def main() -> None:
            async with serve_control(ServerSettings(data=tmp_path / "data"), artifacts_directory) as control:
                for name in ("acme", "other"):
                    answer = await control.put(name, component, {"bindings": BINDINGS})
                    assert answer.status == 200, answer.text
                jar = aiohttp.CookieJar(unsafe=True)
                async with aiohttp.ClientSession(f"http://127.0.0.1:{control.port}", cookie_jar=jar) as http:
                    await test(World(control, Browser(http)))

        asyncio.run(main())

    return run
