"""Batches are one transaction each; requests that share a commit do not notice one another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from host_bindings.d1.database import Statement, StatementResult
from host_bindings.d1.errors import D1Error
from tests.host_bindings.d1.conftest import DatabaseUnderTest, Sql

Outcome = list[StatementResult] | str


def together(sql: Sql, db: DatabaseUnderTest, *requests: Sequence[tuple[Any, ...]]) -> list[Outcome]:
    """Puts all requests into the queue at once: they run as a group. Results, or error messages."""

    async def run() -> list[Outcome]:
        tasks = [db.database.query([Statement(s[0], s[1:]) for s in request]) for request in requests]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        return [outcome.message if isinstance(outcome, D1Error) else outcome for outcome in outcomes]  # type: ignore[misc]

    return sql.run(run())


@pytest.fixture
def accounts(db: DatabaseUnderTest) -> DatabaseUnderTest:
    db.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER CHECK (n < 1000))\nINSERT INTO t VALUES (1, 0)")
    return db


def test_a_batch_runs_in_order_and_answers_for_each(accounts: DatabaseUnderTest) -> None:
    results = accounts.batch(
        ("UPDATE t SET n = n + 1",), ("SELECT n FROM t",), ("UPDATE t SET n = ?", 7), ("SELECT n FROM t",)
    )

    assert [result.rows for result in results] == [[], [[1]], [], [[7]]]


def test_a_batch_that_fails_rolls_back_as_a_whole(accounts: DatabaseUnderTest) -> None:
    error = accounts.batch_error(("INSERT INTO t VALUES (2, 0)",), ("CREATE TABLE u (a)",), ("SELECT nope",))

    assert "no such column: nope" in error
    assert accounts.value("SELECT count(*) FROM t") == 1
    assert accounts.rows("SELECT name FROM sqlite_master WHERE name = 'u'") == []


def test_a_text_of_several_statements_rolls_back_as_a_whole(accounts: DatabaseUnderTest) -> None:
    accounts.error("INSERT INTO t VALUES (2, 0); SELECT nope")

    assert accounts.value("SELECT count(*) FROM t") == 1


@pytest.mark.parametrize(
    "statement",
    [
        "BEGIN",
        "BEGIN IMMEDIATE",
        "COMMIT",
        "END",
        "ROLLBACK",
        "SAVEPOINT a",
        "RELEASE a",
        "ROLLBACK TO a",
        "RELEASE request",
    ],
)
def test_a_tenant_cannot_open_or_end_transactions(accounts: DatabaseUnderTest, statement: str) -> None:
    for _ in range(2):  # a cached statement would be allowed the second time
        assert accounts.error(statement).startswith(
            "D1_ERROR: To execute a transaction, please use the state.storage.transaction()"
        )
    accounts.batch_error(("UPDATE t SET n = 5",), (statement,))

    assert accounts.value("SELECT n FROM t") == 0


def test_begin_and_end_of_a_trigger_are_no_transaction(accounts: DatabaseUnderTest) -> None:
    accounts.query("CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET n = 9 WHERE id = new.id; END")
    accounts.query("INSERT INTO t VALUES (2, 0)")

    assert accounts.value("SELECT n FROM t WHERE id = 2") == 9


def test_foreign_keys_hold_whatever_a_pragma_says(accounts: DatabaseUnderTest) -> None:
    accounts.query("CREATE TABLE c (t REFERENCES t (id))")
    accounts.query("PRAGMA foreign_keys = off")

    assert "FOREIGN KEY" in accounts.error("INSERT INTO c VALUES (99)")
    assert "FOREIGN KEY" in accounts.error("PRAGMA foreign_keys = off; INSERT INTO c VALUES (99)")


def test_foreign_keys_can_be_deferred_to_the_end_of_a_batch(accounts: DatabaseUnderTest) -> None:
    accounts.query("CREATE TABLE c (t REFERENCES t (id))")
    defer, early = ("PRAGMA defer_foreign_keys = on",), ("INSERT INTO c VALUES (2)",)

    accounts.batch(defer, early, ("INSERT INTO t VALUES (2, 0)",))
    accounts.query("DELETE FROM c")

    assert "FOREIGN KEY constraint failed" in accounts.batch_error(defer, ("INSERT INTO c VALUES (3)",))
    assert "FOREIGN KEY constraint failed" in accounts.error("INSERT INTO c VALUES (3)"), "the pragma stayed on"


@pytest.mark.parametrize(
    ("pragma", "probe"),
    [
        ("case_sensitive_like", "SELECT 'a' LIKE 'A'"),
        ("ignore_check_constraints", "PRAGMA ignore_check_constraints"),
        ("recursive_triggers", "PRAGMA recursive_triggers"),
        ("reverse_unordered_selects", "PRAGMA reverse_unordered_selects"),
        ("legacy_alter_table", "PRAGMA legacy_alter_table"),
        ("defer_foreign_keys", "PRAGMA defer_foreign_keys"),
    ],
)
def test_a_setting_lasts_for_one_request(accounts: DatabaseUnderTest, pragma: str, probe: str) -> None:
    before = accounts.rows(probe)
    for _ in range(2):
        inside = accounts.batch((f"PRAGMA {pragma} = 1",), (probe,))[1].rows

        assert inside != before
        assert accounts.rows(probe) == before
    accounts.batch_error((f"PRAGMA {pragma} = 1",), ("SELECT nope",))
    assert accounts.rows(probe) == before


# Groups


def test_requests_of_a_group_see_those_before_them_in_order(sql: Sql, accounts: DatabaseUnderTest) -> None:
    step = [("UPDATE t SET n = n + 1 RETURNING n",)]

    outcomes = together(sql, accounts, *[step] * 50)

    assert [outcome[0].rows for outcome in outcomes if isinstance(outcome, list)] == [[[n]] for n in range(1, 51)]


def test_a_request_that_fails_takes_no_other_of_its_group_along(sql: Sql, accounts: DatabaseUnderTest) -> None:
    outcomes = together(
        sql,
        accounts,
        [("UPDATE t SET n = n + 1",)],
        [("UPDATE t SET n = 500",), ("SELECT nope",)],
        [("UPDATE t SET n = n + 1000",)],
        [("UPDATE t SET n = n + 1",)],
    )

    assert [type(outcome) for outcome in outcomes] == [list, str, str, list]
    assert accounts.value("SELECT n FROM t") == 2


@pytest.mark.parametrize(
    "destroyer",
    [
        "INSERT OR ROLLBACK INTO t VALUES (1, 0)",
        "CREATE TRIGGER g BEFORE DELETE ON t BEGIN SELECT RAISE(ROLLBACK, 'no'); END; DELETE FROM t",
        "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) UPDATE t SET n = (SELECT count(*) FROM c)",
    ],
    ids=["or rollback", "raise rollback", "interrupted write"],
)
def test_a_rollback_of_the_transaction_takes_no_other_of_the_group_along(
    sql: Sql, accounts: DatabaseUnderTest, destroyer: str
) -> None:
    step = [("UPDATE t SET n = n + 1",)]

    outcomes = together(sql, accounts, step, step, [(destroyer,)], step)

    assert [type(outcome) for outcome in outcomes] == [list, list, str, list]
    assert accounts.value("SELECT n FROM t") == 3
    assert accounts.value("SELECT count(*) FROM t") == 1


def test_foreign_keys_left_broken_fail_their_own_request_only(sql: Sql, accounts: DatabaseUnderTest) -> None:
    accounts.query("CREATE TABLE c (t REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)")

    outcomes = together(
        sql,
        accounts,
        [("UPDATE t SET n = 1",)],
        [("INSERT INTO c VALUES (99)",)],
        [("INSERT INTO c VALUES (1)",)],
    )

    assert [type(outcome) for outcome in outcomes] == [list, str, list]
    assert accounts.rows("SELECT * FROM c") == [[1]]


def test_the_last_row_id_is_the_databases_not_the_processs(sql: Sql) -> None:
    first, second = sql.database(), sql.database()
    for db, row in ((first, 11), (second, 22)):
        db.exec(f"CREATE TABLE t (id INTEGER PRIMARY KEY)\nINSERT INTO t VALUES ({row})")

    for _ in range(5):
        assert first.query("SELECT 1").meta.last_row_id == 11
        assert second.query("SELECT 1").meta.last_row_id == 22
