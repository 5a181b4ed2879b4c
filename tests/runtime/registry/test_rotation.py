"""The key that seals secrets is replaced: nothing is lost whenever that is cut off, and servers that run go on."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from host_bindings.scope import Binding
from runtime.cli import data_copy
from runtime.engine.limits import Limits
from runtime.registry import Registry, RegistryError, load_seal, rotate_key
from runtime.registry.connection import RegistryConnection
from runtime.registry.keys import KeyFile
from runtime.registry.seal import AesGcmSeal
from runtime.settings import ServerSettings, SettingsError

ROOT = Path(__file__).parents[3]
SECRET = "correct horse battery staple"
OLD, NEW = bytes(range(32)), bytes(range(32, 64))


def text(*keys: bytes) -> str:
    return " ".join(base64.b64encode(key).decode() for key in keys)


def with_registry(settings: ServerSettings, test: Callable[[Registry], Awaitable[None]]) -> None:
    async def run() -> None:
        registry = Registry(settings.registry_path, seal=load_seal(settings))
        await registry.open()
        try:
            await test(registry)
        finally:
            await registry.close()

    asyncio.run(run())


async def deploy(registry: Registry, value: str) -> None:
    binding = Binding("secret_text", "API_KEY", value=value)
    await registry.deploy("production", "worker", "a" * 64, (binding,), Limits(), ())


async def fill(registry: Registry) -> None:
    await registry.create_namespace("production")
    await deploy(registry, "an earlier one")
    await deploy(registry, SECRET)


async def check(registry: Registry) -> None:
    found = [version.bindings[0].value for version in await registry.versions("production", "worker")]
    assert found == [SECRET, "an earlier one"]


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    """Of a data directory with two secrets."""
    data = tmp_path / "data"
    data.mkdir()
    made = ServerSettings(data=data)
    with_registry(made, fill)
    return made


def opens(settings: ServerSettings, key: bytes) -> bool:
    """Whether the registry is sealed with the key."""
    try:
        RegistryConnection(settings.registry_path, AesGcmSeal(key)).close()
    except RegistryError:
        return False
    return True


def test_every_secret_is_sealed_with_another_key_and_the_old_one_opens_nothing(settings: ServerSettings) -> None:
    (old,) = KeyFile.of(settings).read()
    inode = settings.secrets_key_path.stat().st_ino

    assert rotate_key(settings) == 2

    (new,) = KeyFile.of(settings).read()
    assert (opens(settings, new), opens(settings, old)) == (True, False)
    assert stat.S_IMODE(settings.secrets_key_path.stat().st_mode) == 0o600
    # A confined server may not open another file of that name.
    assert settings.secrets_key_path.stat().st_ino == inode
    with_registry(settings, check)


def test_what_was_sealed_with_the_old_key_is_gone(settings: ServerSettings) -> None:
    connection = RegistryConnection(settings.registry_path, load_seal(settings))
    sealed = [bytes(row[0]) for row in connection.rows("SELECT sealed FROM secrets")]
    connection.close()

    rotate_key(settings)

    stored = b"".join(path.read_bytes() for path in settings.data.glob("registry.sqlite*"))
    assert len(sealed) == 2 and not any(each in stored for each in sealed)


def test_a_registry_that_is_open_goes_on_reading_and_writing(settings: ServerSettings) -> None:
    async def test(registry: Registry) -> None:
        for number in range(3):
            await asyncio.to_thread(rotate_key, settings)
            assert [v.bindings[0].value for v in await registry.versions("production", "worker")][-2:] == [
                SECRET,
                "an earlier one",
            ]
            await deploy(registry, f"new {number}")

    with_registry(settings, test)
    with_registry(settings, lambda registry: asyncio.sleep(0))
    assert rotate_key(settings) == 5


def test_a_file_that_the_settings_name_is_changed_as_well(settings: ServerSettings, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(settings.secrets_key_path.read_text().strip().replace("+", "-").replace("/", "_"))
    settings.secrets_key_path.unlink()
    elsewhere = ServerSettings(data=settings.data, secrets_key_file=file)

    rotate_key(elsewhere)

    assert len(file.read_text().split()) == 1
    with_registry(elsewhere, check)


def test_of_keys_in_the_settings_the_first_is_taken(settings: ServerSettings) -> None:
    (old,) = KeyFile.of(settings).read()
    both = ServerSettings(data=settings.data, secrets_key=text(NEW, old))
    with_registry(both, check)

    assert rotate_key(both) == 2

    with_registry(ServerSettings(data=settings.data, secrets_key=text(NEW)), check)
    with pytest.raises(SettingsError, match="its first key is at work already"):
        rotate_key(both)
    with_registry(both, check)


@pytest.mark.parametrize(
    "content",
    [
        text(OLD),
        text(OLD) + "\n\n" + text(NEW)[:20],
        text(OLD) + "\n" + text(NEW) + "\n",
        text(NEW)[:30] + text(OLD)[30:] + "\n" + text(NEW) + "\n" + text(OLD) + "\n",
    ],
)
def test_a_key_file_is_read_however_far_a_change_of_it_came(tmp_path: Path, content: str) -> None:
    file = KeyFile(tmp_path / "key")
    file.path.write_text(content)
    assert OLD in file.read()

    file.add(bytes(32))
    assert {OLD, bytes(32)} <= set(file.read())
    file.keep(bytes(32))
    assert file.read() == [bytes(32)]
    assert file.path.read_text() == text(bytes(32)) + "\n"


def test_a_backup_during_which_the_key_is_replaced_has_the_key_of_its_registry(
    settings: ServerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = ServerSettings(data=tmp_path / "copy")
    target.data.mkdir()
    settings.admin_token_path.write_text("x" * 43)
    copy_file = data_copy.copy_file

    def copy(source: Path, to: Path) -> None:
        if source == settings.admin_token_path:  # the registry has been copied, the key has not
            rotate_key(settings)
        copy_file(source, to)

    monkeypatch.setattr(data_copy, "copy_file", copy)
    data_copy.copy_data(settings, target, lambda phrase: None)

    with_registry(target, check)
    with_registry(settings, check)
    assert KeyFile.of(target).read()[0] == KeyFile.of(settings).read()[0]
    rotate_key(target)
    assert len(KeyFile.of(target).read()) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from runtime.registry import rotate_key
from runtime.registry.connection import RegistryConnection
from runtime.settings import ServerSettings

left = int(sys.argv[2])

def counted(function):
    def call(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

for name in ("pwrite", "fsync", "ftruncate"):
    setattr(os, name, counted(getattr(os, name)))
for name in ("execute", "rows", "empty_log"):
    setattr(RegistryConnection, name, counted(getattr(RegistryConnection, name)))
rotate_key(ServerSettings(data=Path(sys.argv[1])))
"""


def test_cut_off_at_any_step_it_loses_nothing_and_can_be_done_again(settings: ServerSettings) -> None:
    (key,) = KeyFile.of(settings).read()
    kills = replaced = 0
    for step in range(100):
        command = [sys.executable, "-c", KILLED, str(settings.data), str(step)]
        status = subprocess.run(command, cwd=ROOT, env={**os.environ}).returncode
        with_registry(settings, check)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        kills += 1
        if not opens(settings, key):
            replaced += 1
        rotate_key(settings)
        (key,) = KeyFile.of(settings).read()
        with_registry(settings, check)
    assert kills >= 8
    assert 0 < replaced < kills
