"""Operations that a test cuts short: `python -m tests.torture.scenarios DIRECTORY NAME` does one and says so.

Each has a state before and one after, and tells which of them a directory is in; anything else is a failure. What is
answered goes out by writev, which nothing else here uses, so that a test can stop every other system call.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from host_bindings.body import BytesBody
from host_bindings.contract import Failure
from host_bindings.d1.database import Database, Statement
from host_bindings.d1.errors import D1Error
from host_bindings.d1.service import SqlService
from host_bindings.kv.store import KVNamespace
from host_bindings.r2.store import Bucket
from host_bindings.r2.uploads import NamedPart
from host_bindings.scope import Binding, Resources, Tenant
from runtime.artifacts import ArtifactError, ArtifactStore, RejectedUpload
from runtime.engine.limits import Limits
from runtime.registry import NamespaceExists, Registry, RegistryError, load_seal, rotate_key
from runtime.settings import ServerSettings, SettingsError
from runtime.stopped import StoppedScript, load_stops, save_stops

State = Literal["before", "after"]

TENANT = Tenant("production", "tenant")
BINDINGS = (
    Binding("kv_namespace", "KV", "kv"),
    Binding("r2_bucket", "R2", "r2"),
    Binding("d1", "D1", "d1"),
)
BEFORE, AFTER = "before", "after"
LARGE = 300_000
"""Bytes: more than one piece, more than one page."""

WORKER = "worker.wasm"


class Parts:
    """The parts of a server that keep something, open on a directory. Nothing is opened before it is used."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._sql = SqlService(directory / "resources", processes=1)
        self.resources = Resources(directory / "resources", self._sql)
        scope = self.resources.scope(TENANT, BINDINGS)
        self.kv: KVNamespace = scope.kv("KV")
        self.r2: Bucket = scope.r2("R2")
        self.d1: Database = scope.d1("D1")
        self.artifacts = ArtifactStore(directory / "artifacts")
        self._registry: Registry | None = None

    async def registry(self) -> Registry:
        if self._registry is None:
            registry = Registry(self.directory / "registry.sqlite")
            await registry.open()
            with suppress(NamespaceExists):
                await registry.create_namespace("production")
            self._registry = registry
        return self._registry

    async def close(self) -> None:
        await self.resources.close()
        await self._sql.close()
        await self.artifacts.close()
        if self._registry is not None:
            await self._registry.close()

    async def object(self, key: str) -> bytes | None:
        found = await self.r2.get(key)
        if found is None:
            return None
        assert found.body is not None
        try:
            return await found.body.read_all(10**9)
        finally:
            found.body.close()

    async def query(self, *statements: tuple[str, list[object]]) -> list[list[object]]:
        results = await self.d1.query([Statement(sql, parameters) for sql, parameters in statements])  # type: ignore[arg-type]
        return results[-1].rows


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Parts]:
    parts = Parts(directory)
    try:
        yield parts
    finally:
        await parts.close()


@dataclass(frozen=True)
class Scenario:
    """`act` leads from the state before, which `prepare` makes, to the one after; `look` gives what there is."""

    prepare: Callable[[Parts], Awaitable[object]]
    act: Callable[[Parts], Awaitable[object]]
    look: Callable[[Parts], Awaitable[object]]
    before: object
    after: object

    async def state(self, parts: Parts) -> State:
        found = await self.look(parts)
        if found == self.before:
            return "before"
        assert found == self.after, found
        return "after"


def text(state: str, size: int = LARGE) -> bytes:
    return state.encode() * (size // len(state))


async def nothing(_parts: Parts) -> None: ...


async def _kv_value(parts: Parts) -> object:
    found = await parts.kv.get("key")
    return found and (found.value, found.metadata)


async def _upload(parts: Parts) -> None:
    id = await parts.r2.create_upload("key")
    etag = await parts.r2.upload_part("key", id, 1, BytesBody(text(AFTER)))
    (parts.directory / "upload").write_text(f"{id} {etag}")


async def _complete(parts: Parts) -> None:
    id, etag = (parts.directory / "upload").read_text().split()
    await parts.r2.complete_upload("key", id, [NamedPart(1, etag)])


async def _abort(parts: Parts) -> None:
    id, _ = (parts.directory / "upload").read_text().split()
    await parts.r2.abort_upload("key", id)


async def _parts_left(parts: Parts) -> object:
    (database,) = parts.directory.glob("resources/*/r2_bucket/*/r2.sqlite")
    with closing(sqlite3.connect(database)) as connection:
        return bool(connection.execute("SELECT count(*) FROM parts").fetchone()[0])


async def _table(parts: Parts) -> None:
    await parts.query(
        ("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)", []), ("INSERT INTO t VALUES (1, 'before')", [])
    )


async def _rows(parts: Parts) -> object:
    return await parts.query(("SELECT n, text FROM t ORDER BY n", []))


async def _leave(parts: Parts) -> None:
    """Notes the bookmark of a state, and changes it."""
    await _table(parts)
    bookmark = await parts.d1.bookmark()
    (parts.directory / "bookmark").write_text(bookmark)
    await parts.query(("UPDATE t SET text = 'later'", []))


async def _return(parts: Parts) -> None:
    await parts.d1.restore(bookmark=(parts.directory / "bookmark").read_text())


async def _tables(parts: Parts) -> object:
    return await parts.query(("SELECT name FROM sqlite_master WHERE name = 't'", []))


async def _deploy(parts: Parts, variable: str) -> None:
    registry = await parts.registry()
    artifact = await parts.artifacts.add(parts.directory / WORKER)
    bindings = (*BINDINGS, Binding("plain_text", "VERSION", value=variable))
    await registry.deploy("production", "tenant", artifact.digest, bindings, Limits(), [])


async def _deployed(parts: Parts) -> object:
    registry = await parts.registry()
    found = registry.find("production", "tenant")
    if found is None:
        return None
    # A deployment is whole: its code is there and can be mapped.
    with await parts.artifacts.compiled(found.artifact):
        pass
    return next(binding.value for binding in found.bindings if binding.name == "VERSION")


async def _undeploy(parts: Parts) -> None:
    await (await parts.registry()).delete("production", "tenant")


async def _fill(parts: Parts) -> None:
    await parts.kv.put("key", b"x")
    await parts.r2.put("key", BytesBody(text("x")))
    await _table(parts)


async def _stored(parts: Parts) -> object:
    await parts.resources.sweep()
    stored = list(parts.directory.glob("resources/*"))
    return bool(stored) and (await _kv_value(parts), await parts.object("key"), await _rows(parts))


def _stop(version: str) -> StoppedScript:
    return StoppedScript("production", "tenant", version, 1, "it crashed")


def _save_stops(*versions: str) -> Callable[[Parts], Awaitable[None]]:
    async def save(parts: Parts) -> None:
        await asyncio.to_thread(save_stops, parts.directory / "stopped.json", map(_stop, versions))

    return save


async def _stops(parts: Parts) -> object:
    return [stop.version for stop in load_stops(parts.directory / "stopped.json")]


def _sealed(parts: Parts) -> ServerSettings:
    return ServerSettings(data=parts.directory / "sealed")


async def _seal(parts: Parts) -> None:
    settings = _sealed(parts)
    settings.data.mkdir()
    registry = Registry(settings.registry_path, seal=load_seal(settings))
    await registry.open()
    await registry.create_namespace("production")
    secret = Binding("secret_text", "KEY", value="secret")
    await registry.deploy("production", "tenant", "a" * 64, (secret,), Limits(), [])
    await registry.close()
    (parts.directory / "first-key").write_text(settings.secrets_key_path.read_text())


async def _rotate(parts: Parts) -> None:
    await asyncio.to_thread(rotate_key, _sealed(parts))


async def _sealed_with_the_first_key(parts: Parts) -> object:
    """Whatever the key is, the secret is there."""
    registry = Registry(_sealed(parts).registry_path, seal=load_seal(_sealed(parts)))
    await registry.open()
    found = registry.find("production", "tenant")
    await registry.close()
    assert found is not None and found.bindings[0].value == "secret"
    first = load_seal(replace(_sealed(parts), secrets_key_file=parts.directory / "first-key"))
    registry = Registry(_sealed(parts).registry_path, seal=first)
    try:
        await registry.open()
    except RegistryError:
        return False
    await registry.close()
    return True


SCENARIOS: dict[str, Scenario] = {
    "kv put, the first": Scenario(nothing, lambda p: p.kv.put("key", b"v"), _kv_value, None, (b"v", None)),
    "kv put, large": Scenario(
        lambda p: p.kv.put("key", text(BEFORE), metadata="1"),
        lambda p: p.kv.put("key", text(AFTER), metadata="2"),
        _kv_value,
        (text(BEFORE), "1"),
        (text(AFTER), "2"),
    ),
    "kv delete": Scenario(
        lambda p: p.kv.put("key", text(BEFORE)), lambda p: p.kv.delete("key"), _kv_value, (text(BEFORE), None), None
    ),
    "r2 put, the first": Scenario(nothing, lambda p: p.r2.put("key", b"v"), lambda p: p.object("key"), None, b"v"),
    "r2 put, replacing": Scenario(
        lambda p: p.r2.put("key", BytesBody(text(BEFORE))),
        lambda p: p.r2.put("key", BytesBody(text(AFTER))),
        lambda p: p.object("key"),
        text(BEFORE),
        text(AFTER),
    ),
    "r2 delete": Scenario(
        lambda p: p.r2.put("key", BytesBody(text(BEFORE))),
        lambda p: p.r2.delete(["key"]),
        lambda p: p.object("key"),
        text(BEFORE),
        None,
    ),
    "r2 complete": Scenario(_upload, _complete, lambda p: p.object("key"), None, text(AFTER)),
    "r2 abort": Scenario(_upload, _abort, _parts_left, True, False),
    "d1 create, the first": Scenario(nothing, _table, _tables, [], [["t"]]),
    "d1 insert": Scenario(
        _table,
        lambda p: p.query(("INSERT OR REPLACE INTO t VALUES (2, 'after')", [])),
        _rows,
        [[1, "before"]],
        [[1, "before"], [2, "after"]],
    ),
    "d1 batch": Scenario(
        _table,
        lambda p: p.query(
            ("UPDATE t SET text = 'after'", []), ("INSERT OR REPLACE INTO t VALUES (2, ?)", ["x" * LARGE])
        ),
        _rows,
        [[1, "before"]],
        [[1, "after"], [2, "x" * LARGE]],
    ),
    "d1 restore": Scenario(_leave, _return, _rows, [[1, "later"]], [[1, "before"]]),
    "deploy, the first": Scenario(nothing, lambda p: _deploy(p, "after"), _deployed, None, "after"),
    "deploy, the next": Scenario(
        lambda p: _deploy(p, "before"), lambda p: _deploy(p, "after"), _deployed, "before", "after"
    ),
    "undeploy": Scenario(lambda p: _deploy(p, "before"), _undeploy, _deployed, "before", None),
    "purge": Scenario(
        _fill,
        lambda p: p.resources.purge(TENANT),
        _stored,
        ((b"x", None), text("x"), [[1, "before"]]),
        False,
    ),
    "rotate key": Scenario(_seal, _rotate, _sealed_with_the_first_key, True, False),
    "stop record": Scenario(_save_stops("a"), _save_stops("a", "b"), _stops, ["a"], ["a", "b"]),
}

REFUSALS = (Failure, D1Error, RegistryError, ArtifactError, RejectedUpload, SettingsError, OSError)
"""What a caller can be told. `OSError` is for the supervisor's record, which tells its log."""


ATTEMPTS = 5


async def main(directory: Path, name: str) -> None:
    """Acts, and again if that is refused: what failed may have been a passing fault, though one in each thread."""
    async with opened(directory) as parts:
        for _ in range(ATTEMPTS):
            try:
                await SCENARIOS[name].act(parts)
            except REFUSALS as error:
                os.writev(1, [f"refused: {type(error).__name__}: {error}\n".encode()])
            else:
                os.writev(1, [b"acknowledged\n"])
                return


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
