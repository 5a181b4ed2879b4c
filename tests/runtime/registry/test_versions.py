"""Versions and deployments: what is kept, what answers, and what a change leaves alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from host_bindings.scope import Binding, Tenant
from runtime.engine.limits import Limits
from runtime.registry import Content, Registry, Retention, UnknownScript, UnknownVersion, Version
from tests.runtime.registry.test_registry import ARTIFACT, deploy, with_registry


def ids(versions: list[Version]) -> list[str]:
    return [version.id for version in versions]


async def three_versions(registry: Registry) -> list[Version]:
    await registry.create_namespace("production")
    return [await deploy(registry, artifact=f"{number:064x}") for number in range(3)]


def test_an_earlier_version_can_be_deployed_again_in_one_step(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        first, _, last = await three_versions(registry)

        deployment = await registry.deploy_versions("production", "worker", [(first.id, 100.0)])

        assert registry.find("production", "worker") == first
        assert [share.version for share in deployment.shares] == [first]
        deployed = [each.shares[0].version.number for each in await registry.deployments("production", "worker")]
        assert deployed == [1, 3, 2, 1]
        assert ids(await registry.versions("production", "worker"))[0] == last.id

    with_registry(tmp_path, test)


def test_a_version_can_be_uploaded_without_being_deployed(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        *_, current = await three_versions(registry)
        waiting = await registry.upload("production", "worker", lambda _: Content(ARTIFACT), deploy=False)

        assert registry.find("production", "worker") == current
        assert await registry.version("production", "worker", waiting.id) == waiting
        with pytest.raises(UnknownScript):
            await registry.upload("production", "nobody", lambda _: Content(ARTIFACT), deploy=False)
        with pytest.raises(UnknownVersion):
            await registry.deploy_versions("production", "worker", [("of another script", 100.0)])
        assert registry.find("production", "worker") == current

    with_registry(tmp_path, test)


def test_a_split_gives_each_version_its_part_and_each_key_one_version(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        first, second, _ = await three_versions(registry)
        await registry.deploy_versions("production", "worker", [(first.id, 10.0), (second.id, 90.0)])

        script = registry.script("production", "worker")
        assert script is not None and script.is_split
        assert script.current == second
        choose = script.deployment.choose
        counts = Counter(choose(f"user {number}").id for number in range(10_000))
        assert 800 < counts[first.id] < 1200
        assert counts[first.id] + counts[second.id] == 10_000
        assert len({choose("the same user").id for _ in range(100)}) == 1

    with_registry(tmp_path, test)


def test_of_two_changes_at_once_neither_is_lost(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        await three_versions(registry)

        async def add(name: str) -> None:
            def make(script: object) -> Content:
                before = script.current.content  # type: ignore[attr-defined]
                return Content(before.artifact, (*before.bindings, Binding("plain_text", name, value=name)))

            await registry.upload("production", "worker", make)

        await asyncio.gather(*[add(f"V{number}") for number in range(10)])

        found = registry.find("production", "worker")
        assert found is not None and len(found.bindings) == 10

    with_registry(tmp_path, test)


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        *_, current = await three_versions(registry)

        def make(script: object) -> Content:
            raise RuntimeError("no")

        with pytest.raises(RuntimeError, match="no"):
            await registry.upload("production", "worker", make)
        assert len(await registry.versions("production", "worker")) == 3
        assert registry.find("production", "worker") == current

    with_registry(tmp_path, test)


def test_what_is_deployed_is_kept_however_many_come_after_it(tmp_path: Path) -> None:
    async def run() -> None:
        registry = Registry(tmp_path / "registry.sqlite", retention=Retention(count=2))
        await registry.open()
        first, second, _ = await three_versions(registry)
        await registry.deploy_versions("production", "worker", [(first.id, 50.0), (second.id, 50.0)])
        for number in range(5):
            content = Content(f"{number:064x}")
            await registry.upload("production", "worker", lambda _, content=content: content, deploy=False)
        await registry.prune()

        kept = {version.number for version in await registry.versions("production", "worker")}
        assert kept == {1, 2, 7, 8}
        for deployment in await registry.deployments("production", "worker"):
            assert {share.version.number for share in deployment.shares} <= kept
        await registry.close()

    asyncio.run(run())


def test_a_version_goes_so_many_days_after_its_last_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        registry = Registry(tmp_path / "registry.sqlite", retention=Retention(days=2))
        await registry.open()
        await registry.create_namespace("production")
        start = 1_800_000_000
        for day in range(4):
            monkeypatch.setattr("time.time_ns", lambda day=day: (start + day * 86_400) * 10**9)
            await deploy(registry)
        assert [version.number for version in await registry.versions("production", "worker")] == [4, 3, 2, 1]
        monkeypatch.setattr("time.time_ns", lambda: (start + 4.5 * 86_400) * 10**9)

        assert await registry.prune() == 2

        # The third was in use until the third day, when the fourth replaced it.
        assert [version.number for version in await registry.versions("production", "worker")] == [4, 3]
        await registry.close()

    asyncio.run(run())


def test_tags_belong_to_the_script_and_make_no_version(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        *_, current = await three_versions(registry)
        await registry.set_tags("production", "worker", ["a", "b"])
        await registry.upload("production", "worker", lambda _: current.content)

        script = registry.script("production", "worker")
        assert script is not None
        assert (script.tags, script.current.number) == (("a", "b"), 4)
        with pytest.raises(UnknownScript):
            await registry.set_tags("production", "nobody", [])

    with_registry(tmp_path, test)


def test_a_renamed_namespace_keeps_its_tenants_and_their_storage(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        await registry.create_namespace("production")
        before = await deploy(registry)

        await registry.update_namespace("production", new_name="live", trusted=False)

        after = registry.find("live", "worker")
        assert after is not None
        assert registry.find("production", "worker") is None
        assert after.tenant == before.tenant == Tenant("production", "worker")
        await registry.create_namespace("production")
        other = await deploy(registry)
        assert other.tenant != before.tenant
        await registry.delete("live", "worker")
        await registry.delete_namespace("live")
        await registry.delete("production", "worker")
        await registry.delete_namespace("production")
        await registry.create_namespace("production")
        assert (await deploy(registry)).tenant not in (before.tenant, other.tenant)

    with_registry(tmp_path, test)


def test_a_grant_makes_a_binding_mean_the_platforms_resource_until_it_is_taken_away(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        await registry.create_namespace("production")
        await registry.resources.create("kv_namespace", None, "shared", "Shared")
        binding = Binding("kv_namespace", "KV", resource_id="shared")
        await registry.deploy("production", "worker", ARTIFACT, (binding,), Limits(), ())
        tenant = Tenant("production", "worker")
        heard: list[bool] = []

        def bound_to_the_platform() -> bool:
            found = registry.find("production", "worker")
            return found is not None and found.bindings[0].granted

        registry.subscribe(lambda *_: heard.append(bound_to_the_platform()))
        assert bound_to_the_platform() is False
        await registry.resources.grant("kv_namespace", "shared", tenant)
        assert bound_to_the_platform() is True
        await registry.resources.revoke("kv_namespace", "shared", tenant)
        assert bound_to_the_platform() is False
        assert heard == [True, False]

    with_registry(tmp_path, test)
