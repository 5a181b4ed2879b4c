"""What every store relies on: answered means on disk, errors stay with their owner, files stay few."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import stat
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import pytest

from host_bindings.storage import threads
from host_bindings.storage.connection import open_connection, rows
from host_bindings.storage.database import Database
from host_bindings.storage.failures import StorageFailure
from host_bindings.storage.lanes import PENDING_MAX
from tests.host_bindings.storage.faults import files_no_longer_than

VERSION = 1


def prepare(connection: apsw.Connection) -> None:
    connection.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY, note TEXT)")


def insert(n: int, note: str = "") -> Callable[[apsw.Connection], int]:
    def operation(connection: apsw.Connection) -> int:
        connection.execute("INSERT INTO numbers VALUES (?, ?)", (n, note))
        return n

    return operation


def insert_and_fail(n: int) -> Callable[[apsw.Connection], None]:
    def operation(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO numbers VALUES (?, '')", (n,))
        raise LookupError(f"refused {n}")

    return operation


def look_and_fail(connection: apsw.Connection) -> None:
    raise LookupError(f"found {len(numbers(connection))}")


def numbers(connection: apsw.Connection) -> list[int]:
    return [n for (n,) in rows(connection, "SELECT n FROM numbers ORDER BY n", ())]


def using(path: Path, work: Callable[[Database], Awaitable[None]]) -> None:
    async def main() -> None:
        database = Database(path, prepare, VERSION)
        try:
            await work(database)
        finally:
            await database.close()

    asyncio.run(main())


def test_a_read_sees_every_write_that_was_answered(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        for n in range(20):
            assert await database.write(insert(n)) == n
            assert await database.read(numbers) == list(range(n + 1))

    using(tmp_path / "a" / "b" / "db", work)


def test_nothing_is_touched_before_the_first_operation(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        assert not (tmp_path / "room").exists()

    using(tmp_path / "room" / "db", work)
    assert list(tmp_path.iterdir()) == []


def test_only_this_user_can_read_the_files(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        await database.write(insert(1))
        for path in (tmp_path / "room").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "room").stat().st_mode) == 0o700

    using(tmp_path / "room" / "db", work)


def test_writers_that_wait_together_share_a_commit(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        commits: list[None] = []

        def count_commits(connection: apsw.Connection) -> None:
            def count() -> bool:
                commits.append(None)
                return False

            connection.set_commit_hook(count)

        await database.write(count_commits)
        await asyncio.gather(*[database.write(insert(n)) for n in range(500)])
        assert await database.read(numbers) == list(range(500))
        assert len(commits) < 50

    using(tmp_path / "db", work)


def test_an_operation_that_fails_is_rolled_back_alone(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        await database.write(insert(100))
        results = await asyncio.gather(
            database.write(insert(1)),
            database.write(insert_and_fail(2)),
            database.write(insert(3)),
            # A single statement, which SQLite refuses and rolls back by itself.
            database.write(insert(100), single_statement=True),
            database.write(insert(4), single_statement=True),
            return_exceptions=True,
        )
        assert results[0] == 1 and results[2] == 3 and results[4] == 4
        assert isinstance(results[1], LookupError) and str(results[1]) == "refused 2"
        assert isinstance(results[3], StorageFailure)
        assert await database.read(numbers) == [1, 3, 4, 100]

    using(tmp_path / "db", work)


def test_an_operation_that_fails_with_nobody_beside_it_leaves_nothing(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        with pytest.raises(LookupError):
            await database.write(insert_and_fail(1))
        with pytest.raises(LookupError):
            await database.read(look_and_fail)
        await database.write(insert(2))
        assert await database.read(numbers) == [2]

    using(tmp_path / "db", work)


def test_a_read_cannot_write(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        with pytest.raises(StorageFailure):
            await database.read(insert(1))
        assert await database.read(numbers) == []

    using(tmp_path / "db", work)


def test_when_the_disk_fails_every_writer_is_told_and_the_store_goes_on_afterwards(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        await database.write(insert(0))
        with files_no_longer_than(64 * 1024):
            results = await asyncio.gather(
                *[database.write(insert(n, "x" * 20_000)) for n in range(1, 21)], return_exceptions=True
            )
            assert all(isinstance(result, StorageFailure) for result in results)
            assert len({id(result) for result in results}) == len(results)
            assert all(str(tmp_path) not in str(result) for result in results)
            assert await database.read(numbers) == [0]
        assert await database.write(insert(1)) == 1
        assert await database.read(numbers) == [0, 1]

    using(tmp_path / "db", work)


def test_a_file_that_is_no_database_is_a_clear_failure(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"not a database at all " * 100)

    async def work(database: Database) -> None:
        for operation in (database.read, database.write):
            with pytest.raises(StorageFailure) as caught:
                await operation(numbers)
            assert "db" not in caught.value.message and caught.value.status == 500

    using(tmp_path / "db", work)


def test_a_closed_database_refuses_and_can_be_closed_again(tmp_path: Path) -> None:
    async def main() -> None:
        database = Database(tmp_path / "db", prepare, VERSION)
        pending = database.write(insert(1))
        await database.close()
        assert await pending == 1
        for operation in (database.read, database.write):
            with pytest.raises(StorageFailure):
                await operation(numbers)
        await database.close()
        never_used = Database(tmp_path / "other", prepare, VERSION)
        await never_used.close()
        with pytest.raises(StorageFailure):
            await never_used.read(numbers)

    asyncio.run(main())
    assert not (tmp_path / "other").exists()


def test_a_cancelled_caller_does_no_harm(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        tasks = [asyncio.ensure_future(database.write(insert(n))) for n in range(50)]
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        found = await database.read(numbers)
        assert set(range(1, 50, 2)) <= set(found)

    using(tmp_path / "db", work)


def test_the_queue_is_bounded(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        started, gate = threading.Event(), threading.Event()

        def occupy(connection: apsw.Connection) -> bool:
            started.set()
            return gate.wait(30)

        first = database.write(occupy)
        await asyncio.to_thread(started.wait, 30)
        waiting = [database.write(numbers) for _ in range(PENDING_MAX)]
        with pytest.raises(StorageFailure) as caught:
            await database.write(numbers)
        assert caught.value.status == 503
        gate.set()
        assert await first
        await asyncio.gather(*waiting)

    using(tmp_path / "db", work)


def test_the_write_ahead_log_does_not_grow_with_the_writes(tmp_path: Path) -> None:
    async def work(database: Database) -> None:
        for start in range(0, 6000, 500):
            await asyncio.gather(*[database.write(insert(n, "x" * 3000)) for n in range(start, start + 500)])
        assert (tmp_path / "db-wal").stat().st_size < 12 * 1024 * 1024

    using(tmp_path / "db", work)


def test_idle_stores_give_up_their_files_for_others(tmp_path: Path) -> None:
    async def main() -> None:
        stores = [Database(tmp_path / str(n), prepare, VERSION) for n in range(40)]
        await stores[0].write(insert(0))
        shared = threads.acquire()
        shared.connections.limit = 6
        try:
            for n, store in enumerate(stores[1:], 1):
                await store.write(insert(n))
                assert await store.read(numbers) == [n]
            for n, store in enumerate(stores):
                assert await store.read(numbers) == [n]
            assert len(shared.connections) <= 6
            # Closing happens on the threads that were asked to do it last.
            for _ in range(1000):
                if open_files_below(tmp_path) <= 6 * 3:
                    break
                await asyncio.sleep(0.01)
            assert open_files_below(tmp_path) <= 6 * 3
        finally:
            await asyncio.gather(*[store.close() for store in stores])
            await threads.release()
        assert open_files_below(tmp_path) == 0

    asyncio.run(main())


def test_no_thread_outlives_the_last_store(tmp_path: Path) -> None:
    async def main() -> None:
        stores = [Database(tmp_path / str(n), prepare, VERSION) for n in range(50)]
        await asyncio.gather(*[store.write(insert(1)) for store in stores])
        assert storage_threads() <= threads.READERS + threads.WRITERS + threads.COPIERS
        await asyncio.gather(*[store.close() for store in stores])
        assert storage_threads() == 0

    asyncio.run(main())


def test_a_store_can_be_used_from_one_event_loop_after_another(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", prepare, VERSION)

    async def add(n: int) -> list[int]:
        await database.write(insert(n))
        return await database.read(numbers)

    assert asyncio.run(add(1)) == [1]
    assert asyncio.run(add(2)) == [1, 2]
    asyncio.run(database.close())


def _insert_many(path: str, start: int, count: int) -> None:
    async def work(database: Database) -> None:
        await asyncio.gather(*[database.write(insert(n)) for n in range(start, start + count // 2)])
        for n in range(start + count // 2, start + count):
            await database.write(insert(n))

    using(Path(path), work)


def test_several_processes_write_to_one_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = str(tmp_path / "new" / "db")
    processes = [context.Process(target=_insert_many, args=(path, start, 200)) for start in (0, 1000, 2000)]

    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0, 0]
    connection = open_connection(Path(path), prepare, VERSION, read_only=True)
    assert numbers(connection) == [*range(200), *range(1000, 1200), *range(2000, 2200)]
    connection.close()


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system does not show its locks in /proc/locks")
def test_a_connection_keeps_its_lock_when_another_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "db"

    async def work(database: Database) -> None:
        for n in range(5):
            await database.write(insert(n))
            await database.read(numbers, at_once=numbers)

        # Without it another process that closes its last connection would take the log away.
        holders = {line.split()[4] for line in Path("/proc/locks").read_text().splitlines() if names(line, path)}
        assert holders == {str(os.getpid())}

    using(path, work)


def names(lock: str, path: Path) -> bool:
    return lock.split()[5].rpartition(":")[2] == str(path.stat().st_ino)


def storage_threads() -> int:
    return sum(thread.name.startswith("storage-") for thread in threading.enumerate())


def open_files_below(directory: Path) -> int:
    count = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(directory))
        except FileNotFoundError:
            continue
    return count
