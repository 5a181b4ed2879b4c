"""Rows read and written, as D1 counts them: where Cloister's figures are the same, and where they are lower bounds."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.d1 import run
from tests.parity.sides import Parity, Result

SETUP = [
    run("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b UNIQUE, c)"),
    run("CREATE INDEX t_a ON t (a)"),
    run("CREATE INDEX t_partial ON t (c) WHERE c > 5"),
    run("CREATE TABLE plain (a, b)"),
    run("CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, a)"),
    run("CREATE TABLE keyed (k TEXT PRIMARY KEY, v, w) WITHOUT ROWID"),
    run("CREATE INDEX keyed_v ON keyed (v)"),
    run("CREATE TABLE noted (a)"),
    run("CREATE TABLE notes (a)"),
    run("CREATE TRIGGER note AFTER INSERT ON noted BEGIN INSERT INTO notes VALUES (new.a); END"),
    run("CREATE VIRTUAL TABLE words USING fts5 (text)"),
    *[run(f"INSERT INTO t (a, b, c) VALUES ({n % 3}, {n}, NULL)") for n in range(10)],
    *[run(f"INSERT INTO plain VALUES ({n}, {n})") for n in range(10)],
    *[run(f"INSERT INTO keyed VALUES ('k{n}', {n}, {n})") for n in range(10)],
]

EXACT: list[tuple[str, list[list[Any]]]] = [
    ("SELECT * FROM plain", [[], []]),
    ("SELECT a FROM plain WHERE a > ?", [[7], [20]]),
    ("SELECT * FROM plain LIMIT 3", [[], []]),
    ("SELECT count(*) FROM plain", [[], []]),
    ("SELECT count(*), count(*) FROM plain WHERE a > 5", [[]]),
    ("SELECT max(a) FROM plain", [[]]),
    ("SELECT * FROM t WHERE id = ?", [[5], [6], [5]]),
    ("SELECT * FROM t WHERE id > ?", [[7], [8]]),
    ("SELECT * FROM t ORDER BY id LIMIT 3", [[], []]),
    ("SELECT * FROM t WHERE b = ?", [[5], [500], [6]]),
    ("SELECT * FROM plain WHERE 0", [[]]),
    ("SELECT ?", [[1], [2]]),
    ("SELECT 1 UNION ALL SELECT 2", [[]]),
    ("INSERT INTO plain VALUES (?, 2)", [[1], [2], [3]]),
    ("INSERT INTO plain VALUES (1, 2), (3, 4), (5, 6)", [[], []]),
    ("INSERT INTO plain VALUES (?, 2) RETURNING a", [[1], [2]]),
    ("INSERT INTO t (a, b) VALUES (1, ?)", [[100], [101]]),
    ("INSERT OR IGNORE INTO t (b) VALUES (?)", [[2], [102], [2], [103]]),
    ("INSERT INTO keyed VALUES (?, 1, 1)", [["y"], ["z"]]),
    ("INSERT INTO noted VALUES (?)", [[1], [2]]),
    ("UPDATE plain SET b = 9", [[], []]),
    ("UPDATE t SET a = 5 WHERE id = ?", [[5], [6]]),
    ("UPDATE t SET b = b + 1000 WHERE id = ?", [[5], [6]]),
    ("UPDATE t SET a = 5, b = b + 1000", [[]]),
    ("UPDATE keyed SET v = 3 WHERE k = ?", [["k3"], ["k4"]]),
    ("UPDATE keyed SET w = 3", [[]]),
    ("DELETE FROM t WHERE id = ?", [[5], [6]]),
    ("DELETE FROM plain WHERE a > 3", [[], []]),
    ("DELETE FROM plain", [[]]),
    ("DELETE FROM keyed WHERE k = ?", [["k1"], ["k2"]]),
]

READ, WRITTEN, BOTH = (True, False), (False, True), (True, True)
BOUNDS: list[tuple[str, tuple[bool, bool]]] = [
    ("SELECT * FROM t WHERE id = 500", READ),
    ("SELECT * FROM t WHERE a = 1", READ),
    ("SELECT count(*) FROM t WHERE a = 1", READ),
    ("SELECT * FROM t JOIN plain ON t.id = plain.a", READ),
    ("INSERT INTO plain SELECT a, b FROM plain", READ),
    ("INSERT INTO t (id, a, b) VALUES (1000, 1, 101)", READ),
    ("INSERT INTO counted (a) VALUES (1), (2)", READ),
    ("UPDATE t SET id = 600 WHERE id = 6", READ),
    ("DELETE FROM t WHERE a = 1", READ),
    ("INSERT INTO t (a, b, c) VALUES (1, 102, 9)", WRITTEN),
    ("INSERT OR REPLACE INTO t (id, a, b) VALUES (1, 7, 103)", READ),
    ("INSERT INTO counted (id, a) VALUES (7, 1)", BOTH),
    ("INSERT INTO t (b) VALUES (3) ON CONFLICT (b) DO UPDATE SET a = 9", BOTH),
    ("INSERT INTO words VALUES ('one'), ('two')", WRITTEN),
    ("CREATE TABLE other (a)", BOTH),
    ("CREATE INDEX plain_a ON plain (a)", BOTH),
]
"""Statements, and which of the two figures is too low."""


def figures(results: list[Result]) -> list[tuple[int, int]]:
    """Rows read and written, by each statement after the preparations."""
    metas = [result["value"]["meta"] for result in results[len(SETUP) :]]
    return [(meta["rows_read"], meta["rows_written"]) for meta in metas]


@pytest.mark.parametrize(("sql", "runs"), EXACT)
def test_these_are_the_same_whenever_a_statement_is_run(d1: Parity, sql: str, runs: list[list[Any]]) -> None:
    here, there = d1.both([*SETUP, *[run(sql, *values) for values in runs]])

    assert figures(here) == figures(there)


@pytest.mark.parametrize(("sql", "too_low"), BOUNDS)
def test_these_are_lower_bounds(d1: Parity, sql: str, too_low: tuple[bool, bool]) -> None:
    here, there = d1.both([*SETUP, run(sql)])

    pairs = list(zip(figures(here)[0], figures(there)[0], strict=True))
    assert all(ours <= theirs for ours, theirs in pairs)
    assert tuple(ours < theirs for ours, theirs in pairs) == too_low
