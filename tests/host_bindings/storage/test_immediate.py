"""Reads on the event loop: they take nothing from the disk, do a bounded amount of work, and see what others wrote."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from host_bindings.cached import can_be_asked, open_cached, read_cached
from host_bindings.storage import immediate, threads
from host_bindings.storage.connection import open_connection, rows
from host_bindings.storage.database import Database

VERSION = 1


def prepare(connection: apsw.Connection) -> None:
    connection.execute("CREATE TABLE texts (n INTEGER PRIMARY KEY, content TEXT)")


@pytest.fixture(autouse=True)
def _system_that_can(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    probe.write_bytes(b"x")
    with probe.open("rb") as file:
        if not can_be_asked(file.fileno()):
            pytest.skip("this system or file system does not tell whether a read would wait (RWF_NOWAIT)")


def text(n: int, places: list[int] | None = None) -> Callable[[apsw.Connection], Any]:
    """Reads a text; notes on which thread."""

    def operation(connection: apsw.Connection) -> Any:
        if places is not None:
            places.append(threading.get_ident())
        return rows(connection, "SELECT content FROM texts WHERE n = ?", (n,))

    return operation


def insert(n: int, content: str) -> Callable[[apsw.Connection], None]:
    def operation(connection: apsw.Connection) -> None:
        connection.execute("INSERT OR REPLACE INTO texts VALUES (?, ?)", (n, content))

    return operation


def using(path: Path, work: Callable[[Database], Awaitable[None]]) -> None:
    async def main() -> None:
        database = Database(path, prepare, VERSION)
        try:
            await work(database)
        finally:
            await database.close()

    asyncio.run(main())


async def until_immediate(database: Database, n: int = 1) -> None:
    """Reads until a read is answered on the event loop."""
    places: list[int] = []
    async with asyncio.timeout(60):
        while threading.get_ident() not in places:
            await database.read(text(n), at_once=text(n, places))
            await asyncio.sleep(0)


def without_waiting(awaitable: Awaitable[Any]) -> Any:
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def test_a_database_in_use_is_read_without_a_wait(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        await database.write(insert(1, "one"))
        await until_immediate(database)
        assert without_waiting(database.read(text(1), at_once=text(1))) == [("one",)]

    using(tmp_path / "db", work)


def test_it_sees_every_commit_of_this_and_of_another_process(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        await database.write(insert(1, "one"))
        await until_immediate(database)
        other = open_connection(tmp_path / "db", prepare, VERSION, read_only=False)
        for n in range(50):
            other.execute("UPDATE texts SET content = ? WHERE n = 1", (f"other {n}",))
            assert without_waiting(database.read(text(1), at_once=text(1))) == [(f"other {n}",)]
            await database.write(insert(1, f"own {n}"))
            assert without_waiting(database.read(text(1), at_once=text(1))) == [(f"own {n}",)]
        other.close()

    using(tmp_path / "db", work)


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param("SELECT length(content) FROM texts WHERE n = 2 AND content <> ''", id="many pages"),
        pytest.param(
            "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000) SELECT max(n) FROM c",
            id="many steps",
        ),
    ],
)
def test_what_is_long_is_done_on_a_thread(tmp_path: Path, sql: str) -> None:
    async def work(database: Database) -> None:
        await database.write(insert(1, "one"))
        await database.write(insert(2, "x" * 100_000 * immediate.PAGES_MAX))
        await until_immediate(database)
        places: list[int] = []

        def operation(connection: apsw.Connection) -> Any:
            places.append(threading.get_ident())
            return rows(connection, sql, ())

        found = await database.read(operation, at_once=operation)

        assert found in ([(100_000 * immediate.PAGES_MAX,)], [(100_000,)])
        assert len(places) == 2 and places[0] == threading.get_ident() != places[1]
        # And the connection is as good as before.
        assert without_waiting(database.read(text(1), at_once=text(1))) == [("one",)]

    using(tmp_path / "db", work)


def test_a_page_that_is_not_in_memory_is_read_on_a_thread(tmp_path: Path) -> None:
    path = tmp_path / "db"
    maker = open_connection(path, prepare, VERSION, read_only=False)
    with maker:
        for n in range(1, 3000):
            maker.execute("INSERT INTO texts VALUES (?, ?)", (n, f"{n}" + "x" * 1000))
    maker.close()  # the last one: copies all into the database

    async def work(database: Database) -> None:
        await until_immediate(database)
        wanted = iter(range(2, 3000))
        missed = 0
        # The kernel is asked to forget the file; it may keep some of it.
        while not missed:
            _forget(path)
            n = next(wanted)
            places: list[int] = []
            found = await database.read(text(n, places), at_once=text(n, places))
            assert found[0][0].startswith(f"{n}x")
            missed = len(places) - 1
        assert without_waiting(database.read(text(n), at_once=text(n))) == found

    using(path, work)


def _forget(path: Path) -> None:
    # In a process of its own: to close a descriptor of the file here would drop SQLite's locks on it.
    child = os.fork()
    if child == 0:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os._exit(0)
    os.waitpid(child, 0)


def test_a_refusal_of_the_operation_reaches_the_caller(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        await database.write(insert(1, "one"))
        await until_immediate(database)

        def refuse(_: apsw.Connection) -> None:
            raise LookupError("refused")

        with pytest.raises(LookupError, match="refused"):
            await database.read(text(1), at_once=refuse)
        assert without_waiting(database.read(text(1), at_once=text(1))) == [("one",)]

    using(tmp_path / "db", work)


@pytest.fixture
def few_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(threads, "_connections_max", lambda: 3)
    yield 3


def test_its_connection_counts_among_the_open_ones(tmp_path: Path, few_connections: int) -> None:
    async def main() -> None:
        databases = [Database(tmp_path / f"{n}", prepare, VERSION) for n in range(8)]
        for n, database in enumerate(databases):
            await database.write(insert(1, f"{n}"))
            await until_immediate(database)
        async with asyncio.timeout(60):
            while _open_databases(tmp_path) > few_connections:
                await asyncio.sleep(0.01)
        for n, database in enumerate(databases):
            await until_immediate(database)
            assert await database.read(text(1), at_once=text(1)) == [(f"{n}",)]
        await asyncio.gather(*[database.close() for database in databases])
        assert _open_databases(tmp_path) == 0

    asyncio.run(main())


def _open_databases(directory: Path) -> int:
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:
            continue
    return sum(name.startswith(f"{directory}/") and "-" not in name[len(str(directory)) :] for name in names)


def test_closing_while_it_is_opened_leaves_nothing_open(tmp_path: Path) -> None:
    async def main() -> None:
        for n in range(20):
            database = Database(tmp_path / f"{n}", prepare, VERSION)
            await database.write(insert(1, "one"))
            for _ in range(immediate.READS_BEFORE):
                await database.read(text(1), at_once=text(1))
            await database.close()

    asyncio.run(main())
    assert _open_databases(tmp_path) == 0


def test_files_are_found_and_read_from_memory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    path.read_bytes()
    descriptor = open_cached(os.fsencode(path))
    try:
        assert read_cached(descriptor, 7, 0) == b"content"
        assert read_cached(descriptor, 100, 3) == b"tent"
        assert read_cached(descriptor, 100, 7) == b""
    finally:
        os.close(descriptor)
    with pytest.raises((FileNotFoundError, BlockingIOError)):
        open_cached(os.fsencode(tmp_path / "missing"))
