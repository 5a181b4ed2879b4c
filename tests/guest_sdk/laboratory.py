"""A worker on the real engine, with real stores, that runs code which tests send it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from guest_sdk.build import build, read_configuration
from host_bindings import WIT_DIRECTORY, wasi
from host_bindings.body import Body, Payload, payload_bytes
from host_bindings.d1.service import SqlService
from host_bindings.interfaces import ALL
from host_bindings.scope import Binding, Resources, Tenant
from runtime.artifacts import ArtifactStore
from runtime.engine.engine import Engine, LoadedComponent
from runtime.engine.limits import Limits
from runtime.engine.pool import Answer, WorkerPool
from tests.components import cache_directory
from workers import rpc

PROJECTS = Path(__file__).parent / "projects"
T = TypeVar("T")


class Laboratory:
    """The worker in the folder `project`, loaded. `log` collects (level, message)."""

    def __init__(self, engine: Engine, resources: Resources, project: Path, component: LoadedComponent) -> None:
        configuration = read_configuration(project)
        bindings = [_binding(binding) for binding in configuration.bindings]
        bindings.append(Binding("d1", "JS_DB", "javascript", js_types=True))
        self.log: list[tuple[str, str]] = []
        self.pool = WorkerPool(
            engine,
            component,
            resources.scope(Tenant("tests", configuration.name), bindings),
            Limits(),
            lambda _id, level, message: self.log.append((level, message)),
        )

    async def fetch(
        self, method: str = "GET", url: str = "http://worker/", headers: str = "", body: Payload = None
    ) -> Answer:
        return await self.pool.fetch(method, url, headers, body, request_id="r")

    async def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Calls a method as a dispatcher does; in-memory attachments stay what they are."""
        text, attachments = rpc.encode([list(arguments), named])
        value, returned = await self.pool.call(method, text, attachments, request_id="r")  # type: ignore[arg-type]
        received: list[Any] = list(returned)
        for index in rpc.bytes_attached(value):
            received[index] = await content(received[index])
        return rpc.decode(value, received)

    async def run(self, code: str, *arguments: Any, **named: Any) -> Any:
        return await self.call("run", code, *arguments, **named)


async def load(engine: Engine, component: Path) -> LoadedComponent:
    """The component, loaded; what it shares with others comes compiled from the tests' cache."""
    store = ArtifactStore(cache_directory() / "artifacts")
    try:
        artifact = await store.add(component)
        with await store.compiled(artifact.digest) as compiled:
            return engine.load(compiled.component, compiled.modules)
    finally:
        await store.close()


async def content(body: Payload) -> bytes:
    return await payload_bytes(body, 100 * 1024 * 1024)


def in_laboratory(
    directory: Path, body: Callable[[Laboratory], Awaitable[T]], project: Path = PROJECTS / "laboratory"
) -> T:
    """Runs an async test body, with stores in `directory`, and closes everything afterwards."""

    async def main() -> T:
        sql = SqlService(directory)
        engine = Engine(ALL, flush=wasi.flush)
        resources = Resources(directory, sql)
        component = await asyncio.to_thread(build, project, wit_directory=WIT_DIRECTORY)
        laboratory = Laboratory(engine, resources, project, await load(engine, component))
        try:
            return await body(laboratory)
        finally:
            await laboratory.pool.close()
            await engine.close()
            await resources.close()
            await sql.close()

    return asyncio.run(main())


def _binding(described: dict[str, Any]) -> Binding:
    resource = described.get("namespace_id") or described.get("bucket_name") or described.get("id")
    value = described.get("text", described.get("json"))
    return Binding(described["type"], described["name"], resource, value)


__all__ = ["Body", "Laboratory", "content", "in_laboratory"]
