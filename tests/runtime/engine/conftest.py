from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from host_bindings import wasi
from host_bindings.interfaces import ALL
from host_bindings.scope import Scope
from runtime.engine.engine import Engine
from runtime.engine.limits import Limits
from runtime.engine.pool import WorkerPool
from tests.components import machine_code, raw_component


class Workshop:
    """An engine with the raw worker loaded, and pools of it."""

    def __init__(self, engine: Engine, code: Path) -> None:
        self.engine = engine
        self.component = engine.load(code, {})
        self.log: list[tuple[str, str, str]] = []
        self.pools: list[WorkerPool] = []

    def pool(self, limits: Limits | None = None) -> WorkerPool:
        made = WorkerPool(
            self.engine,
            self.component,
            Scope({}, {}),
            limits or Limits(),
            lambda *entry: self.log.append(entry),
        )
        self.pools.append(made)
        return made


@pytest.fixture(scope="session")
def raw_code() -> Path:
    return machine_code(raw_component("raw_worker"))


@pytest.fixture
def in_workshop(raw_code: Path) -> Callable[[Callable[[Workshop], Awaitable[None]]], None]:
    """Runs an async test body with a `Workshop`, and closes everything afterwards."""

    @asynccontextmanager
    async def workshop() -> AsyncIterator[Workshop]:
        engine = Engine(ALL, flush=wasi.flush)
        made = Workshop(engine, raw_code)
        try:
            yield made
        finally:
            for pool in made.pools:
                await pool.close()
            assert not engine.instances, "an instance outlived its pool"
            assert not engine.invocations, "a call outlived its pool"
            await engine.close()

    def run(body: Callable[[Workshop], Awaitable[None]]) -> None:
        async def main() -> None:
            async with workshop() as made:
                await body(made)

        asyncio.run(main())

    return run
