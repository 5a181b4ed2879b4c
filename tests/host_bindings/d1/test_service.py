"""The processes behind the databases: they die, and what was answered stays."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from host_bindings.d1.database import Database, Statement
from host_bindings.d1.errors import D1Error
from host_bindings.d1.limits import SqlLimits
from host_bindings.d1.service import SqlService
from tests.host_bindings.d1.conftest import QUICK

ENDLESS = Statement("WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c")
ONE_OPCODE = Statement("SELECT instr(zeroblob(1999000), CAST(zeroblob(999000) || x'01' AS BLOB))")


TEMPORARY = Path(tempfile.gettempdir())
"""Where pytest's folders are."""


@asynccontextmanager
async def service(processes: int = 1, limits: SqlLimits = QUICK) -> AsyncIterator[SqlService]:
    running = SqlService(TEMPORARY, processes, limits)
    try:
        yield running
    finally:
        await running.close()


async def value(database: Database, sql: str) -> object:
    (result,) = await database.query([Statement(sql)])
    return result.rows[0][0]


async def message(database: Database, statement: Statement) -> str:
    with pytest.raises(D1Error) as caught:
        await database.query([statement])
    return caught.value.message


def exists(process_id: int) -> bool:
    return Path(f"/proc/{process_id}").exists()


async def gone(process_id: int) -> None:
    while exists(process_id):
        await asyncio.sleep(0.01)


def test_nothing_is_started_before_the_first_request(tmp_path: Path) -> None:
    async def run() -> None:
        async with service() as sql:
            database = Database(tmp_path / "a", sql)
            assert sql.process_ids == []
            assert not (tmp_path / "a").exists()
            await value(database, "SELECT 1")
            assert len(sql.process_ids) == 1

    asyncio.run(run())


@pytest.mark.parametrize("processes", [1, 3])
def test_parallel_increments_are_all_counted(tmp_path: Path, processes: int) -> None:
    async def run() -> None:
        async with service(processes) as sql:
            databases = [Database(tmp_path / name / "d", sql) for name in ("a", "b", "c")]
            for database in databases:
                await database.exec("CREATE TABLE t (n)\nINSERT INTO t VALUES (0)")
            step = Statement("UPDATE t SET n = n + 1")
            await asyncio.gather(*[database.query([step]) for _ in range(200) for database in databases])
            assert [await value(database, "SELECT n FROM t") for database in databases] == [200, 200, 200]

    asyncio.run(run())


def test_what_was_answered_survives_kills_of_the_process(tmp_path: Path) -> None:
    async def write(database: Database, name: int, answered: list[str], stop: asyncio.Event) -> None:
        for number in range(10_000):
            if stop.is_set():
                return
            key = f"{name}-{number}"
            with contextlib.suppress(D1Error):
                await database.query(
                    [Statement("INSERT INTO t VALUES (?)", [key]), Statement("INSERT INTO u VALUES (?)", [key])]
                )
                answered.append(key)

    async def run() -> None:
        answered: list[str] = []
        stop = asyncio.Event()
        chance = random.Random(7)
        async with service() as sql:
            database = Database(tmp_path / "a", sql)
            await database.exec("CREATE TABLE t (k PRIMARY KEY)\nCREATE TABLE u (k PRIMARY KEY)")
            writers = [asyncio.create_task(write(database, name, answered, stop)) for name in range(8)]
            for kills in range(12):
                # On a busy machine a new process may not have answered anything yet.
                while len(answered) <= 5 * kills:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(chance.uniform(0.01, 0.12))
                for process_id in sql.process_ids:
                    os.kill(process_id, signal.SIGKILL)
            stop.set()
            await asyncio.gather(*writers)
            (stored, twin) = await database.query([Statement("SELECT k FROM t"), Statement("SELECT k FROM u")])
            assert await value(database, "PRAGMA quick_check") == "ok"
        assert len(answered) > 50
        assert set(answered) <= {row[0] for row in stored.rows}
        assert sorted(stored.rows) == sorted(twin.rows), "half of a batch is there"

    asyncio.run(run())


def test_no_increment_is_lost_or_made_twice_when_processes_are_killed(tmp_path: Path) -> None:
    async def increment(database: Database, outcomes: Counter[str]) -> None:
        try:
            await database.query([Statement("UPDATE t SET n = n + 1")])
            outcomes["answered"] += 1
        except D1Error as error:
            outcomes[error.message] += 1

    async def run() -> None:
        outcomes: Counter[str] = Counter()
        chance = random.Random(11)
        async with service(processes=2) as sql:
            database = Database(tmp_path / "a", sql)
            await database.exec("CREATE TABLE t (n)\nINSERT INTO t VALUES (0)")
            for _ in range(10):
                running = [asyncio.create_task(increment(database, outcomes)) for _ in range(100)]
                await asyncio.sleep(chance.uniform(0, 0.01))
                for process_id in sql.process_ids:
                    os.kill(process_id, signal.SIGKILL)
                await asyncio.wait(running)
            counted = await value(database, "SELECT n FROM t")
        unknown = outcomes["D1_ERROR: Network connection lost."]
        assert outcomes["answered"] + unknown == 1000
        assert outcomes["answered"] <= counted <= outcomes["answered"] + unknown  # type: ignore[operator]

    asyncio.run(run())


def test_a_process_killed_for_one_request_loses_no_other(tmp_path: Path) -> None:
    """Requests that wait behind the one that is killed, of the same group or of other databases, just run later."""

    async def run() -> None:
        async with service(processes=1) as sql:
            attacked, other = Database(tmp_path / "a" / "d", sql), Database(tmp_path / "b" / "d", sql)
            for database in (attacked, other):
                await database.exec("CREATE TABLE t (n)\nINSERT INTO t VALUES (0)")
            step = Statement("UPDATE t SET n = n + 1")
            first = [attacked.query([step]) for _ in range(3)]
            last = [database.query([step]) for database in (attacked, other) for _ in range(3)]
            outcomes = await asyncio.gather(*first, *last, message(attacked, ONE_OPCODE))
            assert outcomes[-1] == "D1_ERROR: D1 DB exceeded its CPU time limit and was reset."
            assert await value(attacked, "SELECT n FROM t") == 6
            assert await value(other, "SELECT n FROM t") == 3

            _, bomb, _ = await asyncio.gather(
                attacked.query([step]), message(attacked, ONE_OPCODE), attacked.query([step])
            )
            assert "CPU time limit" in bomb
            assert await value(attacked, "SELECT n FROM t") == 8

    asyncio.run(run())


def test_a_process_that_dies_by_itself_is_replaced(tmp_path: Path) -> None:
    async def run() -> None:
        async with service() as sql:
            database = Database(tmp_path / "a", sql)
            await value(database, "SELECT 1")
            (process_id,) = sql.process_ids
            os.kill(process_id, signal.SIGSEGV)
            assert await value(database, "SELECT 2") == 2
            await gone(process_id)
            running = asyncio.create_task(message(database, ENDLESS))
            await asyncio.sleep(0.1)
            os.kill(sql.process_ids[0], signal.SIGKILL)
            assert await running == "D1_ERROR: Network connection lost."
            assert await value(database, "SELECT 3") == 3

    asyncio.run(run())


def test_a_request_whose_caller_has_gone_is_not_run(tmp_path: Path) -> None:
    async def run() -> None:
        async with service() as sql:
            database = Database(tmp_path / "a", sql)
            await database.exec("CREATE TABLE t (n)")
            slow = asyncio.create_task(message(database, ENDLESS))
            await asyncio.sleep(0.05)
            cancelled = asyncio.create_task(database.query([Statement("INSERT INTO t VALUES (1)")]))
            await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            await slow
            assert await value(database, "SELECT count(*) FROM t") == 0

    asyncio.run(run())


def test_the_queue_of_a_database_is_bounded(tmp_path: Path) -> None:
    async def run() -> None:
        async with service(limits=replace(QUICK, queue_requests=5, queue_bytes=10_000)) as sql:
            database = Database(tmp_path / "a" / "d", sql)
            asked = [database.query([Statement("SELECT 1")]) for _ in range(10)]
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
            refused = [str(outcome) for outcome in outcomes if isinstance(outcome, D1Error)]
            assert refused == ["D1_ERROR: D1 DB is overloaded. Too many requests queued."] * 5
            assert "Too many requests" in await message(database, Statement("SELECT ?", ["x" * 10_000]))
            assert await value(database, "SELECT 1") == 1

    asyncio.run(run())


def test_a_request_does_not_wait_for_ever(tmp_path: Path) -> None:
    async def run() -> None:
        async with service(limits=replace(QUICK, request_ms=1_500, queue_ms=300)) as sql:
            first, second = Database(tmp_path / "a" / "d", sql), Database(tmp_path / "b" / "d", sql)
            while not sql.process_ids:  # it may take longer to start than a request may wait
                await asyncio.gather(value(first, "SELECT 1"), return_exceptions=True)
            slow = asyncio.create_task(message(first, ENDLESS))
            await asyncio.sleep(0.2)
            late = await asyncio.gather(message(first, ENDLESS), message(second, ENDLESS))
            assert list(late) == ["D1_ERROR: D1 DB is overloaded. Requests queued for too long."] * 2
            assert not slow.done()
            assert "CPU time limit" in await slow

    asyncio.run(run())


def test_many_databases_share_few_open_files(tmp_path: Path) -> None:
    async def run() -> None:
        async with service(limits=replace(QUICK, connections=4)) as sql:
            databases = [Database(tmp_path / "a" / str(number), sql) for number in range(12)]
            for number, database in enumerate(databases):
                await database.exec(f"CREATE TABLE t (n)\nINSERT INTO t VALUES ({number})")
            assert [await value(database, "SELECT n FROM t") for database in databases] == list(range(12))
            (process_id,) = sql.process_ids
            opened = [os.readlink(link) for link in Path(f"/proc/{process_id}/fd").iterdir()]
            assert len({path for path in opened if path.endswith("database.sqlite")}) == 4

    asyncio.run(run())


def test_closing_leaves_no_process_descriptor_or_thread_behind(tmp_path: Path) -> None:
    async def run(number: int) -> list[int]:
        async with service(processes=3) as sql:
            databases = [Database(tmp_path / str(number) / str(n) / "d", sql) for n in range(3)]
            attacks = [asyncio.create_task(message(database, ENDLESS)) for database in databases]
            await asyncio.gather(*attacks)
            await message(databases[0], ONE_OPCODE)
            await value(databases[0], "SELECT 1")
            process_ids = sql.process_ids
        return process_ids

    asyncio.run(run(0))
    gc.collect()
    descriptors, threads = set(os.listdir("/proc/self/fd")), threading.active_count()

    process_ids = asyncio.run(run(1))

    gc.collect()
    assert process_ids
    assert not any(exists(process_id) for process_id in process_ids)
    assert set(os.listdir("/proc/self/fd")) == descriptors
    assert threading.active_count() == threads


def test_closing_ends_even_what_does_not_end(tmp_path: Path) -> None:
    async def run() -> None:
        async with service(limits=replace(QUICK, request_ms=60_000)) as sql:
            database = Database(tmp_path / "a", sql)
            running = asyncio.create_task(message(database, ONE_OPCODE))
            waiting = asyncio.create_task(message(database, Statement("SELECT 1")))
            while not sql.process_ids:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            (process_id,) = sql.process_ids
        assert "Network connection lost" in await running
        assert "has been closed" in await waiting
        assert "has been closed" in await message(database, Statement("SELECT 1"))
        assert not exists(process_id)

    asyncio.run(run())


_PARENT = """
import asyncio, sys
from pathlib import Path
from host_bindings.d1.database import Database, Statement
from host_bindings.d1.service import SqlService

async def main():
    service = SqlService(Path(sys.argv[1]), 1)
    database = Database(Path(sys.argv[1]), service)
    await database.query([Statement("SELECT 1")])
    task = asyncio.ensure_future(database.query([Statement(sys.argv[2])]))
    await asyncio.sleep(0.1)
    print(service.process_ids[0], flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("statement", ["SELECT 1", ONE_OPCODE.sql], ids=["idle", "busy"])
def test_a_process_ends_with_its_parent(tmp_path: Path, statement: str) -> None:
    arguments = [sys.executable, "-c", _PARENT, str(tmp_path / "a"), statement]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        process_id = int(parent.stdout.readline())
        assert exists(process_id)
        parent.kill()

    until = time.monotonic() + 10
    while exists(process_id) and time.monotonic() < until:
        time.sleep(0.02)
    assert not exists(process_id)


def test_there_must_be_a_process() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SqlService(TEMPORARY, 0)


def test_processes_that_do_not_start_are_an_error_not_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    async def run() -> None:
        async with service() as sql:
            database = Database(tmp_path / "a", sql)
            for _ in range(2):
                assert await message(database, Statement("SELECT 1")) == "D1_ERROR: Network connection lost."

    asyncio.run(run())
