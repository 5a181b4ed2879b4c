"""From a script's name to the pool of its current version: opened once, replaced at a deploy, closed when unused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from host_bindings import interfaces
from host_bindings.d1.service import SqlService
from host_bindings.scope import Resources
from host_bindings.wasi.console import flush
from runtime.artifacts import ArtifactStore
from runtime.dispatcher.errors import WorkerNotFound
from runtime.dispatcher.namespace import DispatchNamespace
from runtime.engine.engine import Engine
from runtime.engine.errors import WorkerUnavailable
from runtime.engine.limits import Limits
from runtime.registry import Registry
from tests.components import raw_component

Deploy = Callable[..., Awaitable[object]]
Test = Callable[[DispatchNamespace, Deploy, Registry], Awaitable[None]]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The directory of an artifact store, and the digest of the component in it."""
    directory = tmp_path_factory.mktemp("namespace") / "artifacts"

    async def add() -> str:
        store = ArtifactStore(directory)
        try:
            return (await store.add(raw_component("raw_worker"))).digest
        finally:
            await store.close()

    yield directory, asyncio.run(add())


@pytest.fixture
def run(artifacts: tuple[Path, str], tmp_path: Path) -> Callable[..., None]:
    """Runs a test with a namespace of real parts."""
    directory, digest = artifacts

    def run(test: Test, pools_max: int = 256) -> None:
        async def main() -> None:
            registry, store, sql = (
                Registry(tmp_path / "registry.sqlite"),
                ArtifactStore(directory),
                SqlService(tmp_path),
            )
            await registry.open()
            await registry.create_namespace("production")
            resources, engine = Resources(tmp_path / "resources", sql), Engine(interfaces.ALL, flush)
            namespace = DispatchNamespace(
                "production", registry, store, engine, resources, lambda *_: lambda *_: None, pools_max=pools_max
            )

            async def deploy(script: str, **limits: int) -> object:
                return await registry.deploy("production", script, digest, (), Limits(**limits), ())  # type: ignore[arg-type]

            try:
                await test(namespace, deploy, registry)
            finally:
                await namespace.close()
                await engine.close()
                await resources.close()
                await sql.close()
                await store.close()
                await registry.close()

        asyncio.run(main())

    return run


async def call(namespace: DispatchNamespace, script: str, function: str = "hello") -> object:
    """Lets the worker run one of its functions; the text that it answers with."""
    return (await namespace.fetch(script, "POST", function, "", None, request_id="r")).body


def pools(namespace: DispatchNamespace) -> list[str]:
    return sorted(entry.version.script for entry in namespace._entries.values())


def test_a_missing_script_shows_when_it_is_called(run: Callable[..., None]) -> None:
    async def test(namespace: DispatchNamespace, deploy: Deploy, registry: Registry) -> None:
        assert "nobody" not in namespace
        namespace.get("nobody")
        with pytest.raises(WorkerNotFound, match=r"^Worker not found"):
            await call(namespace, "nobody")
        with pytest.raises(WorkerNotFound, match=r"^Worker not found"):
            await namespace.call("nobody", "method", "[[],{}]", [], request_id="r")

    run(test)


def test_a_pool_is_made_once_for_many_first_calls(run: Callable[..., None]) -> None:
    async def test(namespace: DispatchNamespace, deploy: Deploy, registry: Registry) -> None:
        await deploy("a")
        results = await asyncio.gather(*[call(namespace, "a", "sleep") for _ in range(10)])
        assert results == ["slept"] * 10
        assert pools(namespace) == ["a"]
        assert "a" in namespace

    run(test)


def test_a_deploy_is_seen_by_the_next_call_and_lets_running_ones_finish(run: Callable[..., None]) -> None:
    async def test(namespace: DispatchNamespace, deploy: Deploy, registry: Registry) -> None:
        await deploy("a")
        assert [await call(namespace, "a", "count") for _ in range(2)] == ["1", "2"]
        running = [asyncio.create_task(call(namespace, "a", "sleep")) for _ in range(5)]
        await asyncio.sleep(0)
        await deploy("a")
        assert await call(namespace, "a", "count") == "1"
        assert await asyncio.gather(*running) == ["slept"] * 5

    run(test)


def test_calls_that_wait_for_an_instance_go_on_with_the_new_version(run: Callable[..., None]) -> None:
    async def test(namespace: DispatchNamespace, deploy: Deploy, registry: Registry) -> None:
        await deploy("a", instances_max=1)
        await call(namespace, "a")
        waiting = [asyncio.create_task(call(namespace, "a", "sleep")) for _ in range(8)]
        await asyncio.sleep(0)
        for _ in range(3):
            await deploy("a", instances_max=1)
            await call(namespace, "a")
        assert await asyncio.gather(*waiting) == ["slept"] * 8

    run(test)


def test_a_deleted_script_is_gone_at_once(run: Callable[..., None]) -> None:
    async def test(namespace: DispatchNamespace, deploy: Deploy, registry: Registry) -> None:
        await deploy("a")
        await call(namespace, "a")
        await registry.delete("production", "a")
        with pytest.raises(WorkerNotFound):
            await call(namespace, "a")
        async with asyncio.timeout(10):
            while pools(namespace):
                await asyncio.sleep(0.01)

    run(test)


def test_the_pools_that_nobody_used_for_longest_are_closed(run: Callable[..., None]) -> None:
    async def test(namespace: DispatchNamespace, deploy: Deploy, registry: Registry) -> None:
        for script in ("a", "b", "c", "d"):
            await deploy(script)
        for script in ("a", "b", "a", "c"):
            await call(namespace, script)
        assert pools(namespace) == ["a", "c"]
        await call(namespace, "d")
        assert pools(namespace) == ["c", "d"]
        assert await call(namespace, "b") == "hello"

    run(test, pools_max=2)


def test_a_component_that_cannot_be_loaded_is_unavailable_and_may_come_back(run: Callable[..., None]) -> None:
    async def test(namespace: DispatchNamespace, deploy: Deploy, registry: Registry) -> None:
        await registry.deploy("production", "a", "0" * 64, (), Limits(), ())
        with pytest.raises(WorkerUnavailable, match="The worker cannot be loaded"):
            await call(namespace, "a")
        await deploy("a")
        assert await call(namespace, "a") == "hello"

    run(test)


def test_a_closed_namespace_takes_no_calls(run: Callable[..., None]) -> None:
    async def test(namespace: DispatchNamespace, deploy: Deploy, registry: Registry) -> None:
        await deploy("a")
        await call(namespace, "a")
        await namespace.close()
        with pytest.raises(WorkerUnavailable):
            await call(namespace, "a")

    run(test)


def test_a_split_deployment_keeps_each_key_on_one_version_and_gives_both_their_part(run: Callable[..., None]) -> None:
    async def test(namespace: DispatchNamespace, deploy: Deploy, registry: Registry) -> None:
        versions = [await deploy("a", cpu_ms=cpu_ms) for cpu_ms in (1000, 2000)]
        shares = [(version.id, 50.0) for version in versions]  # type: ignore[attr-defined]
        await registry.deploy_versions("production", "a", shares)

        async def counted(headers: str, request_id: str) -> int:
            """How often the instance has been called: each version has one instance of its own."""
            answer = await namespace.fetch("a", "POST", "count", headers, None, request_id=request_id)
            return int(str(answer.body))

        sticky = [await counted("cloudflare-workers-version-key: ann\n", str(number)) for number in range(20)]
        assert sticky == list(range(1, 21))
        assert pools(namespace) == ["a"]
        others = [await counted("", str(number)) for number in range(40)]
        assert pools(namespace) == ["a", "a"]
        assert others != list(range(21, 61))

        await registry.deploy_versions("production", "a", shares[:1])
        async with asyncio.timeout(10):
            while pools(namespace) != ["a"]:
                await asyncio.sleep(0.01)

    run(test)
