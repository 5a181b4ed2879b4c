"""The power fails: what was not synced is lost, or torn, or there, and what was acknowledged must be there.

A VFS of SQLite's records every write, truncation and sync of a run, and when each operation was acknowledged. Then for
each seed the disk is put together as a power failure at a random moment may have left it: of each file what was synced,
and of what was written since then some sectors and not others. The files must open, be sound, and have every operation
that had been acknowledged by that moment, whole.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest

from host_bindings.d1.limits import SqlLimits
from host_bindings.d1.session import Session
from host_bindings.d1.wire import STATUS_BYTES, Allowed, Answers, Request, Status, Work
from host_bindings.kv.store import KVNamespace
from runtime.engine.limits import Limits
from runtime.registry import Registry

SECTOR = 512
SEEDS = 20
SEEDS_FULL = 250
OPERATIONS = 60


@dataclass
class Event:
    """What was done to a file; `data` None: truncated to `offset`; `synced`: all before is on disk."""

    path: str
    offset: int = 0
    data: bytes | None = None
    synced: bool = False
    deleted: bool = False
    directory: bool = False
    """The directory was synced too."""


@dataclass
class Disk:
    """All that happened, in order, and when what was acknowledged."""

    events: list[Event] = field(default_factory=list)
    acknowledged: dict[str, int] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)

    def begin(self, name: str) -> None:
        self.begun[name] = len(self.events)

    def acknowledge(self, name: str) -> None:
        self.acknowledged[name] = len(self.events)

    def after_failure(self, moment: int, chance: random.Random) -> dict[str, bytes]:
        """The files as a failure after so many events may leave them."""
        files: dict[str, bytearray] = {}
        unsynced: dict[str, list[Event]] = {}
        ghosts: dict[str, bytearray] = {}
        for event in self.events[:moment]:
            if event.deleted:
                # Until the directory is synced the name may come back.
                unsynced.pop(event.path, None)
                ghosts[event.path] = files.pop(event.path, bytearray())
            elif event.synced:
                for each in unsynced.pop(event.path, []):
                    _apply(files.setdefault(event.path, bytearray()), each, lambda _: True)
                if event.directory:
                    ghosts.clear()
            else:
                files.setdefault(event.path, bytearray())
                unsynced.setdefault(event.path, []).append(event)
        share = chance.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        for path, events in unsynced.items():
            for event in events:
                _apply(files[path], event, lambda _: chance.random() < share)
        for path, content in ghosts.items():
            if chance.random() < 0.5:
                files.setdefault(path, content)
        return {path: bytes(content) for path, content in files.items()}


def _apply(content: bytearray, event: Event, reaches: Callable[[int], bool]) -> None:
    """Writes those sectors that reach the disk."""
    if event.data is None:
        if reaches(0):
            del content[event.offset :]
        return
    position, end = event.offset, event.offset + len(event.data)
    while position < end:
        following = min(end, (position // SECTOR + 1) * SECTOR)
        if reaches(position):
            if len(content) < following:
                content.extend(bytes(following - len(content)))
            content[position:following] = event.data[position - event.offset : following - event.offset]
        position = following


class _Vfs(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__("power", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(name, flags, self._disk)

    def xDelete(self, name: str, sync_directory: bool) -> None:
        super().xDelete(name, sync_directory)
        self._disk.events.append(Event(os.path.basename(name), deleted=True))
        if sync_directory:
            self._disk.events.append(Event(os.path.basename(name), synced=True, directory=True))


class _File(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], disk: Disk) -> None:
        path = name if isinstance(name, str) or name is None else name.filename()
        existed = path is not None and os.path.exists(path)
        super().__init__("unix", name, flags)
        self._path = os.path.basename(path or "temporary")
        self._disk = disk
        # With the first sync of a log or journal that it has made SQLite syncs the directory (os_unix.c, unixSync).
        kinds = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
        self._is_new_log = bool(flags[0] & kinds and not existed)

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._disk.events.append(Event(self._path, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        self._disk.events.append(Event(self._path, size))

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._disk.events.append(Event(self._path, synced=True, directory=self._is_new_log))
        self._is_new_log = False


@contextmanager
def recording() -> Iterator[Disk]:
    disk = Disk()
    vfs = _Vfs(disk)
    try:
        yield disk
    finally:
        vfs.unregister()
        apsw.set_default_vfs("unix")


def text(n: int) -> str:
    """Of different lengths, so that operations write one sector or many."""
    return f"{n} " + "x" * (n * 977 % 9_000)


def operations() -> list[tuple[str, str, str]]:
    """Each: its name, its key, and the value that it puts there; keys come again."""
    return [(f"operation-{n}", f"key-{n * 7 % 20}", text(n)) for n in range(OPERATIONS)]


async def run_kv(directory: Path, disk: Disk) -> None:
    kv = KVNamespace(directory)

    async def put(name: str, key: str, value: str) -> None:
        disk.begin(name)
        await kv.put(key, value.encode())
        disk.acknowledge(name)

    steps = operations()
    for n in range(0, OPERATIONS, 3):
        # Some share a commit.
        await asyncio.gather(*[put(*step) for step in steps[n : n + 3]])
    await kv.close()


async def read_kv(directory: Path) -> dict[str, str]:
    kv = KVNamespace(directory)
    try:
        found = await kv.get_many([key for _, key, _ in operations()], bytes_max=10**9)
        return {key: str(entry.value, "utf-8") for key, entry in found.items() if entry is not None}
    finally:
        await kv.close()


_ALLOWED = Allowed(30_000, 1_000_000, 1 << 30)


def _session(answers: list[Answers]) -> Session:
    with tempfile.TemporaryFile() as page:
        page.truncate(STATUS_BYTES)
        return Session(SqlLimits(), Status(page.fileno()), answers.append)


def _query(session: Session, answers: list[Answers], directory: Path, *statements: tuple[str, list[str]]) -> str:
    body = json.dumps({"statements": [{"sql": sql, "params": parameters} for sql, parameters in statements]})
    session.serve(Work(str(directory), 0, [Request("query", body)], _ALLOWED))
    (answer,) = answers.pop().answers
    assert not answer.failed or b"no such table" in answer.text, answer.text
    return answer.text.decode()


async def run_d1(directory: Path, disk: Disk) -> None:
    """What the SQL processes run, in this process."""
    answers: list[Answers] = []
    session = _session(answers)
    disk.begin("create")
    _query(
        session,
        answers,
        directory,
        ("CREATE TABLE t (key TEXT, half TEXT, value TEXT, PRIMARY KEY (key, half))", []),
    )
    disk.acknowledge("create")
    put = "INSERT OR REPLACE INTO t VALUES (?, ?, ?)"
    for name, key, value in operations():
        disk.begin(name)
        _query(session, answers, directory, (put, [key, "1", value]), (put, [key, "2", value]))
        disk.acknowledge(name)
    session.close()


async def read_d1(directory: Path) -> dict[str, str]:
    answers: list[Answers] = []
    session = _session(answers)
    try:
        answer = _query(session, answers, directory, ("SELECT key, value FROM t", []))
        if "no such table" in answer:
            return {}
        found: dict[str, list[str]] = {}
        for key, value in json.loads(answer)[0]["rows"]:
            found.setdefault(key, []).append(value)
        assert all(len(halves) == 2 and halves[0] == halves[1] for halves in found.values())
        return {key: halves[0] for key, halves in found.items()}
    finally:
        session.close()


async def run_registry(directory: Path, disk: Disk) -> None:
    registry = Registry(directory / "registry.sqlite")
    await registry.open()
    disk.begin("namespace")
    await registry.create_namespace("production")
    disk.acknowledge("namespace")
    for name, key, value in operations():
        disk.begin(name)
        await registry.deploy("production", key, "a" * 64, (), Limits(), [value[:100]])
        disk.acknowledge(name)
    await registry.close()


async def read_registry(directory: Path) -> dict[str, str]:
    registry = Registry(directory / "registry.sqlite")
    await registry.open()
    try:
        scripts = [version.script for version in registry.list_scripts("production")]
        found = {name: registry.script("production", name) for name in scripts}
        return {name: script.tags[0] for name, script in found.items() if script is not None}
    finally:
        await registry.close()


STORES = {
    "kv": (run_kv, read_kv, lambda value: value),
    "d1": (run_d1, read_d1, lambda value: value),
    "registry": (run_registry, read_registry, lambda value: value[:100]),
}


@pytest.mark.parametrize("store", STORES)
def test_after_a_power_failure_what_was_acknowledged_is_there(
    store: str, tmp_path: Path, full: bool, say: Callable[[str], None]
) -> None:
    run, read, shown = STORES[store]
    with recording() as disk:
        directory = tmp_path / "recorded"
        directory.mkdir()
        asyncio.run(run(directory, disk))
    assert len(disk.acknowledged) >= OPERATIONS
    seeds = SEEDS_FULL if full else SEEDS
    acknowledged = 0
    for seed in range(seeds):
        chance = random.Random(seed)
        moment = chance.randrange(len(disk.events) + 1)
        after = tmp_path / f"after-{seed}"
        after.mkdir()
        for name, content in disk.after_failure(moment, chance).items():
            (after / name).write_bytes(content)
        for database in after.glob("*.sqlite"):
            with closing(apsw.Connection(str(database))) as connection:
                assert connection.pragma("integrity_check") == "ok", seed

        found = asyncio.run(read(after))

        for key in {key for _, key, _ in operations()}:
            steps = [(name, shown(value)) for name, at, value in operations() if at == key]
            done = [value for name, value in steps if disk.acknowledged[name] <= moment]
            open_ = [value for name, value in steps if disk.begun[name] < moment < disk.acknowledged[name]]
            acknowledged += len(done)
            allowed = [*(done[-1:] or [None]), *open_]
            assert found.get(key) in allowed, (seed, moment, key, found.get(key), allowed)
    say(f"{seeds} power failures, {acknowledged} acknowledged writes looked for, 0 lost")
