"""An older registry is brought up to date, its secrets are sealed, and the key guards them."""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from host_bindings.scope import Tenant
from runtime.registry import Registry, RegistryError, load_seal
from runtime.registry.migrations import _FIRST
from runtime.registry.seal import AesGcmSeal, Seal
from runtime.settings import ServerSettings, SettingsError

SECRET = "correct horse battery staple"
KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def old_registry(tmp_path: Path) -> Path:
    """A registry as the first release wrote it: one script with two versions, and a secret as it is."""
    path = tmp_path / "registry.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(f"PRAGMA journal_mode = WAL; {_FIRST}; PRAGMA user_version = 1")
    bindings = """[{"type": "kv_namespace", "name": "KV", "resource_id": "cache"},
        {"type": "secret_text", "name": "KEY"}]"""
    connection.execute("INSERT INTO namespaces VALUES ('production', 'an-id', 1000)")
    for number in (1, 2):
        row = (f"v{number}", number, "a" * 64, bindings, '{"cpu_ms": 7}', '["team-a"]', 1000 * number)
        connection.execute("INSERT INTO versions VALUES (?, 'production', 'worker', ?, ?, ?, ?, ?, ?)", row)
        connection.execute("INSERT INTO secrets VALUES (?, 'KEY', ?)", (f"v{number}", SECRET.encode()))
    connection.execute("INSERT INTO scripts VALUES ('production', 'worker', 'v2', 1000)")
    connection.execute("INSERT INTO changes (namespace, script) VALUES ('production', 'worker')")
    connection.commit()
    connection.close()
    return path


def opened(path: Path, seal: Seal) -> Registry:
    """A registry that was opened and closed: what it read stays in its memory."""

    async def run() -> Registry:
        registry = Registry(path, seal=seal)
        await registry.open()
        await registry.close()
        return registry

    return asyncio.run(run())


def stored_bytes(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.glob(path.name + "*"))


def test_an_older_registry_keeps_everything_it_held(old_registry: Path) -> None:
    async def run() -> None:
        registry = Registry(old_registry, seal=AesGcmSeal(bytes(32)))
        await registry.open()
        script = registry.script("production", "worker")
        assert script is not None
        assert (script.current.id, script.current.number, script.tags) == ("v2", 2, ("team-a",))
        assert [binding.value for binding in script.current.bindings] == [None, SECRET]
        assert script.current.limits.cpu_ms == 7
        assert script.created_on.timestamp() == 1
        assert script.modified_on.timestamp() == 2
        assert [version.id for version in await registry.versions("production", "worker")] == ["v2", "v1"]
        (listed,) = await registry.resources.of_type("kv_namespace")
        assert (listed.owner, listed.resource_id) == (Tenant("production", "worker"), "cache")
        await registry.deploy_versions("production", "worker", [("v1", 100.0)])
        await registry.close()

    asyncio.run(run())


def test_secrets_that_lay_open_are_sealed_and_leave_no_trace(old_registry: Path) -> None:
    assert SECRET.encode() in stored_bytes(old_registry)

    registry = opened(old_registry, AesGcmSeal(bytes(32)))

    assert SECRET.encode() not in stored_bytes(old_registry)
    found = registry.find("production", "worker")
    assert found is not None and found.bindings[1].value == SECRET


def test_an_upgrade_that_fails_leaves_the_registry_as_it_was(old_registry: Path) -> None:
    class Failing:
        def seal(self, secret: bytes, context: bytes) -> bytes:
            raise RegistryError("no key today")

        def open(self, sealed: bytes, context: bytes) -> bytes:
            raise AssertionError

        def choose(self, proof: bytes) -> None:
            raise AssertionError

    with pytest.raises(RegistryError, match="no key today"):
        opened(old_registry, Failing())

    opened(old_registry, AesGcmSeal(bytes(32)))


def test_another_key_opens_nothing_and_says_so(old_registry: Path) -> None:
    opened(old_registry, AesGcmSeal(bytes(32)))
    with pytest.raises(RegistryError, match="CLOISTER_SECRETS_KEY"):
        opened(old_registry, AesGcmSeal(b"x" * 32))


def test_a_sealed_secret_opens_only_where_it_belongs_and_as_it_was() -> None:
    seal = AesGcmSeal(bytes(32))
    sealed = seal.seal(SECRET.encode(), b"v1/KEY")

    assert seal.open(sealed, b"v1/KEY") == SECRET.encode()
    assert seal.seal(SECRET.encode(), b"v1/KEY") != sealed
    changed = [(sealed, b"v2/KEY"), (sealed[:-1] + bytes([sealed[-1] ^ 1]), b"v1/KEY"), (b"", b"v1/KEY")]
    changed += [(sealed[:n], b"v1/KEY") for n in (1, 5, 13, 20)]
    for text, context in changed:
        with pytest.raises(RegistryError, match="cannot be opened") as refused:
            seal.open(text, context)
        assert SECRET not in str(refused.value)


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path)
    sealed = load_seal(settings).seal(b"x", b"y")

    assert load_seal(settings).open(sealed, b"y") == b"x"
    assert stat.S_IMODE(settings.secrets_key_path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["secrets.key"]


def test_a_key_from_the_settings_or_a_file_comes_first_and_is_not_written_down(tmp_path: Path) -> None:
    directory, file = tmp_path / "data", tmp_path / "key"
    directory.mkdir()
    file.write_text(KEY.replace("+", "-").replace("/", "_") + "\n")
    by_value = ServerSettings(data=directory, secrets_key=KEY)
    by_file = ServerSettings(data=directory, secrets_key_file=file)

    assert load_seal(by_file).open(load_seal(by_value).seal(b"x", b"y"), b"y") == b"x"
    assert os.listdir(directory) == []
    assert KEY not in repr(by_value)


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(bytes(31)).decode(), "é" * 44, "!" * 44])
def test_what_is_no_key_is_refused_with_the_way_to_make_one(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    with pytest.raises(SettingsError, match="openssl rand") as refused:
        load_seal(ServerSettings(data=tmp_path, secrets_key_file=file))
    assert not text or text not in str(refused.value)


def test_a_key_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be used"):
        load_seal(ServerSettings(data=tmp_path, secrets_key_file=tmp_path / "missing"))
    assert os.listdir(tmp_path) == []
