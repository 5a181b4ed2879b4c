"""A management API on a free port, on real parts, and a client of it."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from host_bindings.d1.service import SqlService
from host_bindings.scope import Resources
from runtime.artifacts import ArtifactStore, UploadLimits
from runtime.control import create_control_application
from runtime.control.http import ManagementRunner
from runtime.dashboard import add_dashboard
from runtime.registry import Registry
from runtime.settings import ServerSettings, prepare_data_directory
from runtime.telemetry.observatory import Observatory, open_observatory

TOKEN = "a-token-that-nobody-guesses"
NAMESPACES = "/client/v4/accounts/local/workers/dispatch/namespaces"
SCRIPTS = f"{NAMESPACES}/production/scripts"


@dataclass
class Answer:
    status: int
    headers: Any
    text: str

    @property
    def body(self) -> dict[str, Any]:
        """The envelope, whose shape every answer has."""
        parsed: dict[str, Any] = json.loads(self.text)
        assert parsed.keys() >= {"success", "errors", "messages", "result"}
        assert parsed["success"] is (self.status == 200)
        assert bool(parsed["errors"]) is not parsed["success"]
        return parsed

    @property
    def result(self) -> Any:
        assert self.status == 200, self.text
        return self.body["result"]

    @property
    def code(self) -> int:
        return int(self.body["errors"][0]["code"])

    @property
    def message(self) -> str:
        return str(self.body["errors"][0]["message"])


@dataclass
class Control:
    """The API under test. `http` sends the token with each request."""

    http: aiohttp.ClientSession
    registry: Registry
    artifacts: ArtifactStore
    resources: Resources
    settings: ServerSettings
    observatory: Observatory
    port: int

    async def call(self, method: str, path: str | URL, **options: Any) -> Answer:
        async with self.http.request(method, path, **options) as response:
            return Answer(response.status, response.headers, await response.text())

    async def put(self, name: str, component: bytes, metadata: dict[str, Any] | None = None, **options: Any) -> Answer:
        document = {"main_module": "worker.wasm", **(metadata or {})}
        return await self.call("PUT", f"{SCRIPTS}/{name}", data=form(document, component), **options)

    def uploads(self) -> list[str]:
        return [path.name for path in self.settings.uploads_directory.iterdir()]


def form(metadata: object, component: bytes, name: str = "worker.wasm") -> aiohttp.FormData:
    """An upload as curl and wrangler send it."""
    data = aiohttp.FormData()
    data.add_field("metadata", metadata if isinstance(metadata, str) else json.dumps(metadata))
    data.add_field(name, io.BytesIO(component), filename=name, content_type="application/wasm")
    return data


Test = Callable[[Control], Awaitable[None]]
RunControl = Callable[..., None]


@asynccontextmanager
async def serve_control(settings: ServerSettings, artifacts_directory: Path) -> AsyncIterator[Control]:
    prepare_data_directory(settings)
    registry = Registry(settings.registry_path)
    await registry.open()
    sql = SqlService(settings.resources_directory)
    resources = Resources(settings.resources_directory, sql)
    artifacts = ArtifactStore(artifacts_directory, UploadLimits(upload_bytes_max=settings.upload_bytes_max))
    observing = AsyncExitStack()
    observatory = await open_observatory(observing, settings.telemetry_directory)
    application = create_control_application(registry, artifacts, resources, TOKEN, settings, observatory=observatory)
    add_dashboard(application)
    runner = ManagementRunner(application, access_log=None, lingering_time=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    http = aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        if not await registry.list_namespaces():
            await registry.create_namespace("production")
        yield Control(http, registry, artifacts, resources, settings, observatory, port)
    finally:
        await http.close()
        await runner.cleanup()
        await observing.aclose()
        await resources.close()
        await sql.close()
        await registry.close()
