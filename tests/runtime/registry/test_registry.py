"""What the registry promises: versions that never change, one pointer that moves at once, nothing lost or shown."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_bindings.scope import Binding
from runtime.engine.limits import Limits
from runtime.registry import (
    InvalidName,
    NamespaceExists,
    NamespaceNotEmpty,
    Registry,
    RegistryError,
    UnknownNamespace,
    Version,
)
from runtime.registry.connection import RegistryConnection
from runtime.registry.seal import PROOF, Unsealed
from runtime.registry.versions import Retention
from runtime.settings import NAME_PATTERN

SECRET = "correct horse battery staple"
ARTIFACT = "a" * 64
BINDINGS = (
    Binding("kv_namespace", "USER_KV", resource_id="kv-1"),
    Binding("r2_bucket", "USER_R2", resource_id="bucket"),
    Binding("d1", "USER_DB", resource_id="db"),
    Binding("plain_text", "GREETING", value="héllo\n"),
    Binding("json", "NOTHING", value=None),
    Binding("json", "SETTINGS", value={"a": [1, 2.5, None]}),
    Binding("secret_text", "API_KEY", value=SECRET),
)


def with_registry(path: Path, test: Callable[[Registry], Awaitable[None]]) -> None:
    async def run() -> None:
        registry = Registry(path / "registry.sqlite")
        await registry.open()
        try:
            await test(registry)
        finally:
            await registry.close()

    asyncio.run(run())


async def deploy(registry: Registry, script: str = "worker", artifact: str = ARTIFACT) -> Version:
    return await registry.deploy("production", script, artifact, (), Limits(), ())


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def test_a_deployed_version_is_found_at_once_and_after_a_restart(tmp_path: Path) -> None:
    deployed: list[Version] = []

    async def first(registry: Registry) -> None:
        await registry.create_namespace("production")
        limits = Limits(cpu_ms=7, isolation="request")
        deployed.append(await registry.deploy("production", "worker-1", ARTIFACT, BINDINGS, limits, ("a", "b")))
        assert registry.find("production", "worker-1") == deployed[0]

    async def second(registry: Registry) -> None:
        assert registry.find("production", "worker-1") == deployed[0]
        assert registry.list_scripts("production") == deployed
        assert [(n.name, n.script_count) for n in await registry.list_namespaces()] == [("production", 1)]

    with_registry(tmp_path, first)
    with_registry(tmp_path, second)

    assert deployed[0].bindings == BINDINGS
    assert deployed[0].limits.isolation == "request"
    assert deployed[0].created_on.tzinfo is not None


def test_a_new_version_takes_over_and_the_old_one_stays_as_it_was(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        await registry.create_namespace("production")
        old = await deploy(registry, artifact="a" * 64)
        new = await deploy(registry, artifact="b" * 64)

        assert (old.number, old.artifact) == (1, "a" * 64)
        assert (new.number, new.artifact) == (2, "b" * 64)
        assert old.id != new.id
        assert registry.find("production", "worker") == new
        script = registry.script("production", "worker")
        assert script is not None
        assert (script.created_on, script.modified_on) == (old.created_on, new.created_on)
        assert await registry.referenced_artifacts() == {"a" * 64, "b" * 64}

    with_registry(tmp_path, test)


def test_parallel_deploys_of_one_script_each_get_a_number_of_their_own(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        await registry.create_namespace("production")
        versions = await asyncio.gather(*[deploy(registry) for _ in range(20)])
        assert sorted(version.number for version in versions) == list(range(1, 21))
        current = registry.find("production", "worker")
        assert current is not None and current.number == 20

    with_registry(tmp_path, test)


def test_only_so_many_versions_are_kept(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        await registry.create_namespace("production")
        kept_beside_the_current = Retention().count
        for number in range(kept_beside_the_current + 5):
            await deploy(registry, artifact=f"{number:064x}")
        kept = {f"{number:064x}" for number in range(4, kept_beside_the_current + 5)}
        assert await registry.referenced_artifacts() == kept

    with_registry(tmp_path, test)


def test_a_deleted_script_is_gone_with_its_versions(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        await registry.create_namespace("production")
        await deploy(registry)
        assert await registry.delete("production", "worker") is True
        assert registry.find("production", "worker") is None
        assert registry.list_scripts("production") == []
        assert await registry.referenced_artifacts() == set()
        assert await registry.delete("production", "worker") is False
        assert await registry.delete("production", "\ud800") is False

    with_registry(tmp_path, test)


def test_the_same_script_name_in_two_namespaces_is_two_scripts(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        await registry.create_namespace("production")
        await registry.create_namespace("staging")
        version = await registry.deploy("production", "worker", ARTIFACT, (), Limits(), ())
        assert registry.find("staging", "worker") is None
        await registry.deploy("staging", "worker", "b" * 64, (), Limits(), ())
        await registry.delete("staging", "worker")
        assert registry.find("production", "worker") == version

    with_registry(tmp_path, test)


def test_namespaces_are_made_once_and_deleted_when_empty(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        created = await registry.create_namespace("production")
        assert await registry.list_namespaces() == [created]
        with pytest.raises(NamespaceExists):
            await registry.create_namespace("production")
        await deploy(registry)
        with pytest.raises(NamespaceNotEmpty, match="1 script;"):
            await registry.delete_namespace("production")
        await registry.delete("production", "worker")
        assert await registry.delete_namespace("production") is True
        assert await registry.delete_namespace("production") is False
        with pytest.raises(UnknownNamespace):
            await deploy(registry)

    with_registry(tmp_path, test)


HOSTILE_NAMES = ["", "-a", "a-", "_a", "A", "a b", "a/b", "..", "a\n", "a\0", "é", "a" * 64, "\ud800", "a.b", "'; --"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_outside_the_rule_is_refused_in_words_that_say_the_rule(tmp_path: Path, name: str) -> None:
    async def test(registry: Registry) -> None:
        with pytest.raises(InvalidName, match="1 to 63 lower-case letters") as refused:
            await registry.create_namespace(name)
        assert str(refused.value).isascii() and str(refused.value).isprintable()
        with pytest.raises(InvalidName):
            await deploy(registry, script=name)
        assert await registry.delete_namespace(name) is False
        assert registry.find("production", name) is None

    with_registry(tmp_path, test)


@given(st.text(max_size=70))
def test_the_rule_for_names_lets_only_its_alphabet_through(name: str) -> None:
    if NAME_PATTERN.fullmatch(name):
        assert 1 <= len(name) <= 63
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize("name", ["a", "0", "customer-worker-1", "a_b", "a--b", "a" * 63])
def test_names_within_the_rule_are_taken(name: str) -> None:
    assert NAME_PATTERN.fullmatch(name)


def test_a_subscriber_hears_of_each_change_after_it_is_visible(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        heard: list[tuple[str, str, bool]] = []

        def fails(namespace: str, script: str) -> None:
            raise RuntimeError("one bad subscriber")

        registry.subscribe(fails)
        registry.subscribe(lambda n, s: heard.append((n, s, registry.find(n, s) is not None)))
        await registry.create_namespace("production")
        await deploy(registry)
        await registry.delete("production", "worker")
        assert heard == [("production", "worker", True), ("production", "worker", False)]

    with_registry(tmp_path, test)


def _deploy_in_another_process(path: Path) -> None:
    async def run(registry: Registry) -> None:
        await deploy(registry, "from-there", "b" * 64)
        await registry.delete("production", "from-here")

    with_registry(path, run)


def test_what_another_process_deploys_and_deletes_is_noticed(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        heard: list[tuple[str, str]] = []
        await registry.create_namespace("production")
        await deploy(registry, "from-here")
        registry.subscribe(lambda n, s: heard.append((n, s)))
        process = multiprocessing.get_context("spawn").Process(target=_deploy_in_another_process, args=(tmp_path,))
        process.start()

        await eventually(lambda: registry.find("production", "from-there") is not None)
        await eventually(lambda: registry.find("production", "from-here") is None)

        found = registry.find("production", "from-there")
        assert found is not None and found.artifact == "b" * 64
        assert set(heard) == {("production", "from-there"), ("production", "from-here")}
        await asyncio.to_thread(process.join)
        assert process.exitcode == 0
        process.close()

    with_registry(tmp_path, test)


def test_processes_that_start_together_all_open_a_new_registry(tmp_path: Path) -> None:
    def open_together(path: Path, barrier: threading.Barrier) -> None:
        barrier.wait()
        RegistryConnection(path, Unsealed()).close()

    with ThreadPoolExecutor(4) as openers:
        for attempt in range(20):
            barrier = threading.Barrier(4)
            opened = [openers.submit(open_together, tmp_path / f"{attempt}.sqlite", barrier) for _ in range(4)]

            assert [each.exception() for each in opened] == [None] * 4


def test_a_process_that_missed_very_many_changes_reads_everything_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.registry.database.CHANGES_KEPT", 3)

    async def test(registry: Registry) -> None:
        await registry.create_namespace("production")
        await deploy(registry, "goes")
        await deploy(registry, "stays")
        registry._watching.cancel()

        async def elsewhere(other: Registry) -> None:
            await other.delete("production", "goes")
            for number in range(6):
                await deploy(other, f"new-{number}")

        await asyncio.to_thread(with_registry, tmp_path, elsewhere)
        await deploy(registry, "stays")

        names = [version.script for version in registry.list_scripts("production")]
        assert names == [f"new-{number}" for number in range(6)] + ["stays"]

    with_registry(tmp_path, test)


def test_a_change_that_its_caller_gave_up_waiting_for_is_still_seen(tmp_path: Path) -> None:
    class Slow(Unsealed):
        """Holds a deployment up in its transaction, until it is let go."""

        def __init__(self) -> None:
            self.reached, self.released = threading.Event(), threading.Event()

        def seal(self, secret: bytes, context: bytes) -> bytes:
            if context != PROOF:
                self.reached.set()
                self.released.wait()
            return secret

    async def run() -> None:
        slow = Slow()
        registry = Registry(tmp_path / "registry.sqlite", seal=slow)
        await registry.open()
        await registry.create_namespace("production")
        task = asyncio.create_task(registry.deploy("production", "worker", ARTIFACT, BINDINGS, Limits(), ()))
        await asyncio.to_thread(slow.reached.wait)
        task.cancel()
        await asyncio.wait((task,))
        slow.released.set()
        await eventually(lambda: registry.find("production", "worker") is not None)
        await registry.close()

    asyncio.run(run())


def test_secrets_come_out_of_no_repr(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        await registry.create_namespace("production")
        version = await registry.deploy("production", "worker", ARTIFACT, BINDINGS, Limits(), ())
        script = registry.script("production", "worker")
        for shown in (version, script, registry, registry.list_scripts("production"), version.bindings):
            assert SECRET not in repr(shown)
            assert SECRET not in str(shown)

    with_registry(tmp_path, test)


def test_a_seal_guards_every_secret_and_nothing_else(tmp_path: Path) -> None:
    class Reversing:
        contexts: ClassVar[list[bytes]] = []

        def seal(self, secret: bytes, context: bytes) -> bytes:
            self.contexts.append(context)
            return secret[::-1]

        def open(self, sealed: bytes, context: bytes) -> bytes:
            assert context in self.contexts
            return sealed[::-1]

        def choose(self, proof: bytes) -> None:
            assert self.open(proof, PROOF) == PROOF

    async def run() -> None:
        registry = Registry(tmp_path / "registry.sqlite", seal=Reversing())
        await registry.open()
        await registry.create_namespace("production")
        await registry.deploy("production", "worker", ARTIFACT, BINDINGS, Limits(), ())
        found = registry.find("production", "worker")
        assert found is not None and found.bindings == BINDINGS
        await registry.close()

    asyncio.run(run())
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert SECRET.encode() not in stored
    assert SECRET.encode()[::-1] in stored
    assert [context for context in Reversing.contexts if context != PROOF] == Reversing.contexts[1:]
    assert len(Reversing.contexts) == 2


def test_the_files_are_for_their_owner_only(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        await registry.create_namespace("production")
        files = list(tmp_path.iterdir())
        assert len(files) == 3
        assert [path.stat().st_mode & 0o777 for path in files] == [0o600] * 3

    with_registry(tmp_path, test)


def test_a_registry_of_a_later_release_is_refused(tmp_path: Path) -> None:
    async def nothing(registry: Registry) -> None:
        pass

    with_registry(tmp_path, nothing)
    connection = sqlite3.connect(tmp_path / "registry.sqlite")
    connection.execute("PRAGMA user_version = 1000")
    connection.close()

    with pytest.raises(RegistryError, match="later release"):
        with_registry(tmp_path, nothing)


def test_a_file_that_is_no_registry_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    path.write_bytes(b"this is not a database" * 100)

    async def nothing(registry: Registry) -> None:
        pass

    with pytest.raises(RegistryError, match="damaged or not a registry"):
        with_registry(tmp_path, nothing)
    assert path.read_bytes() == b"this is not a database" * 100
