"""Any state of the last days comes back, whole, and so does the one that was given up for it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_bindings.d1.database import Database, Statement
from host_bindings.d1.errors import D1Error
from host_bindings.d1.limits import KIB, SqlLimits
from host_bindings.d1.service import SqlService
from tests.host_bindings.d1.conftest import DatabaseUnderTest, Sql, running

EVERY_MILLISECOND = SqlLimits(history_interval_ms=1)
"""Each request is in a minute of its own."""
CLOCK_S = 0.05
"""More than the clock of a file system may be late."""


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sql]:
    with running(tmp_path_factory.mktemp("d1"), EVERY_MILLISECOND) as sql:
        yield sql


@pytest.fixture
def counted(db: DatabaseUnderTest) -> DatabaseUnderTest:
    db.exec("CREATE TABLE t (n, filler)")
    return db


def add(db: DatabaseUnderTest, n: int, size: int = 10) -> None:
    db.query("INSERT INTO t VALUES (?, ?)", n, "x" * size)


def content(db: DatabaseUnderTest) -> list[int]:
    return [row[0] for row in db.rows("SELECT n FROM t ORDER BY n")]


def bookmark(sql: Sql, db: DatabaseUnderTest, at: datetime | None = None) -> str:
    return sql.run(db.database.bookmark(at))


def restore(sql: Sql, db: DatabaseUnderTest, to: str | datetime) -> str:
    """The bookmark of the state that was given up."""
    moment = {"bookmark": to} if isinstance(to, str) else {"at": to}
    travel = sql.run(db.database.restore(**moment))  # type: ignore[arg-type]
    assert travel.previous_bookmark is not None
    return travel.previous_bookmark


def refusal(sql: Sql, db: DatabaseUnderTest, to: str | datetime) -> str:
    with pytest.raises(D1Error) as caught:
        restore(sql, db, to)
    return caught.value.message


def now() -> datetime:
    """A time with nothing close to it on either side."""
    time.sleep(CLOCK_S)
    moment = datetime.now(UTC)
    time.sleep(CLOCK_S)
    return moment


def test_a_state_comes_back_by_its_bookmark(sql: Sql, counted: DatabaseUnderTest) -> None:
    add(counted, 1)
    one = bookmark(sql, counted)
    add(counted, 2)

    restore(sql, counted, one)

    assert content(counted) == [1]


def test_a_restore_is_undone_by_the_bookmark_that_it_gives(sql: Sql, counted: DatabaseUnderTest) -> None:
    for n in range(5):
        add(counted, n, size=5_000)
    early = bookmark(sql, counted)
    counted.exec("DELETE FROM t WHERE n > 1")
    counted.exec("CREATE TABLE later (a)")

    given_up = restore(sql, counted, early)
    restored = content(counted)
    restore(sql, counted, given_up)

    assert restored == [0, 1, 2, 3, 4]
    assert content(counted) == [0, 1]
    assert counted.rows("SELECT * FROM later") == []


def test_a_time_means_the_last_state_written_by_then(sql: Sql, counted: DatabaseUnderTest) -> None:
    times = []
    for n in range(4):
        add(counted, n)
        times.append(now())

    for n in (2, 0, 3, 1):
        restore(sql, counted, times[n])
        assert content(counted) == list(range(n + 1))


def test_before_the_first_write_there_was_an_empty_database(sql: Sql, db: DatabaseUnderTest) -> None:
    before = now()
    db.exec("CREATE TABLE t (n)")

    given_up = restore(sql, db, before)

    assert db.rows("SELECT name FROM sqlite_schema") == []
    restore(sql, db, given_up)
    assert db.rows("SELECT name FROM sqlite_schema") == [["t"]]


def test_a_time_always_has_the_same_bookmark(sql: Sql, counted: DatabaseUnderTest) -> None:
    add(counted, 1)
    moment = now()
    first = bookmark(sql, counted, moment)
    add(counted, 2)

    assert bookmark(sql, counted, moment) == first
    assert bookmark(sql, counted) > first


def test_bookmarks_of_sessions_lead_to_the_minute_before(sql: Sql, counted: DatabaseUnderTest) -> None:
    add(counted, 1)
    time.sleep(CLOCK_S)
    request = '{"statements": [{"sql": "SELECT 1"}], "bookmark": true}'
    answer = counted.query_json(request)
    seen = answer.rpartition('"bookmark":"')[2].partition('"')[0]
    time.sleep(CLOCK_S)
    add(counted, 2)

    restore(sql, counted, seen)

    assert content(counted) == [1]


def test_full_text_indexes_come_back_whole(sql: Sql, db: DatabaseUnderTest) -> None:
    db.exec("CREATE VIRTUAL TABLE f USING fts5(a)\nINSERT INTO f VALUES ('one'), ('two')")
    early = bookmark(sql, db)
    db.exec("INSERT INTO f VALUES ('three')\nDELETE FROM f WHERE f MATCH 'one'")

    restore(sql, db, early)

    assert db.rows("SELECT a FROM f WHERE f MATCH 'one OR two OR three' ORDER BY rowid") == [["one"], ["two"]]
    db.exec("INSERT INTO f(f) VALUES ('integrity-check')")


@pytest.mark.parametrize("nonsense", ["", "x", "00000000-00000000-00000000-" + "0" * 32])
def test_a_bookmark_of_another_database_is_refused(sql: Sql, counted: DatabaseUnderTest, nonsense: str) -> None:
    assert refusal(sql, counted, nonsense) == "D1_ERROR: The bookmark is not one of this database."


def test_the_future_and_the_far_past_are_refused(sql: Sql, counted: DatabaseUnderTest) -> None:
    assert refusal(sql, counted, datetime.now(UTC) + timedelta(hours=1)) == "D1_ERROR: The time lies in the future."
    assert refusal(sql, counted, datetime.now(UTC) - timedelta(days=8)).startswith("D1_ERROR: Time travel reaches back")


def test_a_damaged_history_harms_nothing(sql: Sql, counted: DatabaseUnderTest) -> None:
    add(counted, 1, size=50_000)
    early = bookmark(sql, counted)
    counted.exec("DELETE FROM t")
    bookmark(sql, counted)
    (log,) = (counted.directory / "history").glob("*.log")
    kept = log.read_bytes()
    position = kept.rindex(b"page") + 40
    log.write_bytes(kept[:position] + bytes([kept[position] ^ 1]) + kept[position + 1 :])

    message = refusal(sql, counted, early)

    assert message == "D1_ERROR: The database's history is damaged. Choose a later time."
    assert content(counted) == []


def test_what_was_being_written_in_a_crash_is_cut_off(sql: Sql, counted: DatabaseUnderTest) -> None:
    add(counted, 1)
    early = bookmark(sql, counted)
    (log,) = (counted.directory / "history").glob("*.log")
    with log.open("ab") as file:
        file.write(b"page\xff\xff\x00\x00\x00\x00\x00\x00torn")
    add(counted, 2)

    restore(sql, counted, early)

    assert content(counted) == [1]


def test_the_history_stays_within_its_bounds(tmp_path: Path) -> None:
    limits = replace(EVERY_MILLISECOND, history_bytes=200 * KIB)
    with running(tmp_path, limits, processes=1) as sql:
        db = sql.database()
        db.exec("CREATE TABLE t (n, filler)")
        early = bookmark(sql, db)
        for n in range(60):
            db.query("INSERT INTO t VALUES (?, 'x')", n)
            db.query("UPDATE t SET filler = randomblob(1000)")
        size = sum(path.stat().st_size for path in (db.directory / "history").glob("*.log"))

        assert size < 300 * KIB
        assert refusal(sql, db, early).startswith("D1_ERROR: Time travel reaches back to")
        assert content(db) == list(range(60))
        late = bookmark(sql, db)
        add(db, 60)
        restore(sql, db, late)
        assert content(db) == list(range(60))


def test_old_history_is_deleted(tmp_path: Path) -> None:
    with running(tmp_path, replace(EVERY_MILLISECOND, history_ms=3_600_000), processes=1) as sql:
        db = sql.database()
        db.exec("CREATE TABLE t (n, filler)")
        bookmark(sql, db)
        (log,) = (db.directory / "history").glob("*.log")
        hours = int(log.stem, 16)
        old = [log.with_name(f"{hours - back:08x}.log") for back in (2, 1)]
        for path in old:
            path.write_bytes(b"")
        add(db, 1)
        bookmark(sql, db)

        assert [path.exists() for path in old] == [False, True]


def test_a_long_log_is_brought_into_the_file(tmp_path: Path) -> None:
    limits = SqlLimits(checkpoint_pages=50)
    with running(tmp_path, limits, processes=1) as sql:
        db = sql.database()
        db.exec("CREATE TABLE t (n, filler)")
        early = bookmark(sql, db)
        for n in range(100):
            add(db, n, size=3_000)
        log = (db.directory / "database.sqlite-wal").stat().st_size

        assert log < 100 * 4_120
        restore(sql, db, early)
        assert content(db) == []


class Model:
    """What a database held at each bookmark."""

    def __init__(self, sql: Sql) -> None:
        self.sql = sql
        self.db = sql.database()
        self.db.exec("CREATE TABLE t (n, filler)")
        self.states: list[tuple[str, list[int]]] = []
        self.next = 0

    def write(self, size: int) -> None:
        add(self.db, self.next, size)
        self.next += 1

    def delete(self, share: int) -> None:
        self.db.query("DELETE FROM t WHERE n % ? = 0", share)

    def mark(self) -> None:
        self.states.append((bookmark(self.sql, self.db), content(self.db)))

    def travel(self, choice: int) -> None:
        if self.states:
            to, expected = self.states[choice % len(self.states)]
            before = content(self.db)
            self.states.append((restore(self.sql, self.db, to), before))
            assert content(self.db) == expected

    def crash(self) -> None:
        for process_id in self.sql.service.process_ids:
            os.kill(process_id, signal.SIGKILL)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from([1, 500, 9_000])),
        st.tuples(st.just("delete"), st.integers(1, 5)),
        st.tuples(st.just("travel"), st.integers(0, 50)),
        st.tuples(st.just("mark")),
        st.tuples(st.just("crash")),
    ),
    max_size=25,
)


@settings(max_examples=12, deadline=None)
@given(steps=STEPS)
def test_every_marked_state_can_be_had_again(sql: Sql, steps: list[tuple[str, int]]) -> None:
    model = Model(sql)
    for name, *argument in steps:
        if name == "crash":
            model.crash()
            model.mark()
        else:
            getattr(model, name)(*argument)

    for choice in range(len(model.states)):
        model.travel(choice)
    assert model.db.value("PRAGMA quick_check") == "ok"


def test_two_servers_keep_one_history(tmp_path: Path) -> None:
    directory = tmp_path / "owner" / "database"

    async def main(limits: SqlLimits) -> None:
        services = [SqlService(tmp_path, 1, limits) for _ in range(2)]
        databases = [Database(directory, service) for service in services]
        await databases[0].query([Statement("CREATE TABLE t (server, n, filler)")])

        async def write(server: int) -> None:
            insert = "INSERT INTO t VALUES (?, ?, randomblob(3000))"
            for n in range(25):
                await databases[server].query([Statement(insert, (server, n))])

        async def counts(server: int) -> object:
            (result,) = await databases[server].query(
                [Statement("SELECT server, count(*), max(n) FROM t GROUP BY server")]
            )
            return result.rows

        await asyncio.gather(write(0), write(1))
        mark, expected = await databases[1].bookmark(), await counts(0)
        await asyncio.gather(write(0), write(1))
        travel = await databases[0].restore(bookmark=mark)
        assert await counts(1) == expected == [[0, 25, 24], [1, 25, 24]]
        await databases[1].restore(bookmark=travel.previous_bookmark)
        assert await counts(0) == [[0, 50, 24], [1, 50, 24]]
        for database in databases:
            await database.close()
        for service in services:
            await service.close()

    asyncio.run(main(SqlLimits(history_interval_ms=5, checkpoint_pages=30)))
