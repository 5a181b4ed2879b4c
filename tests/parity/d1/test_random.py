"""Random schemas, statements, values, batches, scripts and errors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from tests.parity.d1 import Operation, exec, run
from tests.parity.generated import OPERATIONS, Generated, check
from tests.parity.sides import Parity

TABLES = st.sampled_from(["t0", "t1", "t2"])
COLUMNS = st.sampled_from(["id", "a", "b", "c"])
KEYS = st.sampled_from(
    ["id INTEGER PRIMARY KEY", "id INTEGER PRIMARY KEY AUTOINCREMENT", "id TEXT PRIMARY KEY", "id INT", "id UNIQUE"]
)
TYPES = st.sampled_from(["", " TEXT", " INTEGER", " REAL", " BLOB", " NUMERIC", " INT", " VARCHAR(10)", " ANY"])
CONSTRAINTS = st.sampled_from(
    [
        "",
        "",
        "",
        " NOT NULL",
        " UNIQUE",
        " DEFAULT 5",
        " DEFAULT 'x'",
        " CHECK (@ <> 3)",
        " COLLATE NOCASE",
        " AS (1 + 1)",
        " NOT NULL DEFAULT ''",
    ]
)
REFERENCES = {"t0": st.just(""), "t1": st.sampled_from(["", " REFERENCES t0 (id)", " REFERENCES t0 ON DELETE CASCADE"])}
REFERENCES["t2"] = st.sampled_from(
    ["", " REFERENCES t1 (id) ON UPDATE CASCADE", " REFERENCES t0 (id) ON DELETE SET NULL"]
)
"""Never in a circle: where a key does not fit, such tables could not be dropped any more."""
HOSTILE = st.sampled_from(
    ["'", '"', "''", "\0", "\n", "é", "😀", "%", "_", "--", ";", "?", "\\", "a'b", "NULL", "5", "5.0"]
)
TEXTS = st.one_of(HOSTILE, st.text(st.characters(exclude_categories=["Cs"]), max_size=6), st.just("abc"), st.just("B"))
INTEGERS = st.one_of(st.integers(-3, 6), st.integers(-(2**53) + 1, 2**53 - 1))
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    INTEGERS,
    st.sampled_from([0.5, -2.5, 1e300, 1e-7, 3.0]),
    TEXTS,
    st.lists(st.integers(0, 127), max_size=5),
    st.sampled_from([{"$number": "NaN"}, {"$number": "Infinity"}, {"$bytes": "AH8="}]),
)
NO_VALUES: st.SearchStrategy[Any] = st.sampled_from([{"x": 1}, [300], ["a"], [[1]]])


def literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''").replace("\0", "") + "'"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return str(value)


OCTETS = st.lists(st.integers(0, 127), max_size=3).map(bytes)
"""Bytes that are UTF-8: what becomes of others as a text is one of the differences."""
LITERALS = st.one_of(st.none(), st.integers(-3, 6), st.sampled_from([0.5, 2.0]), TEXTS, OCTETS).map(literal)
BINARY = [
    "+",
    "-",
    "*",
    "/",
    "%",
    "||",
    "<",
    "<=",
    "=",
    "<>",
    "IS",
    "IS NOT",
    "AND",
    "OR",
    "&",
    "<<",
    "->>",
]
UNARY = [
    "NOT {}",
    "-{}",
    "~{}",
    "typeof({})",
    "CAST({} AS TEXT) LIKE 'a%'",
    "CAST({} AS TEXT) GLOB '*b'",
    "length({})",
    "upper({})",
    "hex({})",
    "abs({})",
    "quote({})",
    "lower({})",
]
UNARY += ["{} IS NULL", "json_array({})", "coalesce({}, 'none')", "CAST({} AS INTEGER)", "CAST({} AS BLOB)", "trim({})"]
UNARY += [
    "CASE WHEN {} THEN 'yes' ELSE 'no' END",
    "iif({}, 1, 0)",
    "unicode({})",
    "json_valid({})",
    "({})",
    "nullif({}, 1)",
]
AGGREGATES = [
    "count({})",
    "min({})",
    "max({})",
    "count(DISTINCT {})",
    "sum({})",
    "group_concat({})",
    "json_group_array({})",
]


@st.composite
def expressions(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.integers(0, 4)) if depth else draw(st.integers(0, 1))
    if kind == 0:
        return draw(COLUMNS)
    if kind == 1:
        return draw(LITERALS)
    if kind == 2:
        left, right = draw(expressions(depth - 1)), draw(expressions(depth - 1))
        return f"({left} {draw(st.sampled_from(BINARY))} {right})"
    if kind == 3:
        return draw(st.sampled_from(UNARY)).format(draw(expressions(depth - 1)))
    low, high = draw(LITERALS), draw(LITERALS)
    return f"{draw(COLUMNS)} {draw(st.sampled_from(['BETWEEN {} AND {}', 'IN ({}, {})'])).format(low, high)}"


WHERE = st.one_of(st.just(""), expressions().map(lambda condition: f" WHERE {condition}"))
RETURNING = st.sampled_from(["", "", " RETURNING *", " RETURNING id, a", " RETURNING typeof(b) AS kind"])


@st.composite
def create_table(draw: st.DrawFn) -> str:
    table = draw(TABLES)
    columns = [f"{name}{draw(TYPES)}{draw(CONSTRAINTS).replace('@', name)}" for name in "abc"]
    columns[0] += draw(REFERENCES[table])
    ending = draw(st.sampled_from(["", "", "", " WITHOUT ROWID", " STRICT"]))
    if ending == " STRICT" and " AS (" in "".join(columns):
        ending = ""  # the newer SQLite here checks the types of computed columns too
    return f"CREATE TABLE IF NOT EXISTS {table} ({draw(KEYS)}, {', '.join(columns)}){ending}"


@st.composite
def change_schema(draw: st.DrawFn) -> str:
    table, column = draw(TABLES), draw(COLUMNS)
    return draw(
        st.sampled_from(
            [
                f"CREATE INDEX i_{table}_{column} ON {table} ({column})",
                f"DROP INDEX IF EXISTS i_{table}_{column}",
                f"CREATE UNIQUE INDEX u_{table} ON {table} ({column}, a)",
                f"ALTER TABLE {table} ADD COLUMN d TEXT DEFAULT 'd'",
                f"ALTER TABLE {table} RENAME COLUMN {column} TO e",
                f"ALTER TABLE {table} DROP COLUMN {column}",
                f"DROP TABLE {table}",
                f"CREATE VIEW v_{table} AS SELECT {column} FROM {table}",
                f"DROP VIEW IF EXISTS v_{table}",
                f"CREATE TRIGGER tr AFTER INSERT ON {table} BEGIN UPDATE {table} SET b = 'tr' WHERE a = new.a; END",
                f"CREATE TRIGGER tn BEFORE DELETE ON {table} BEGIN SELECT raise(abort, 'no'); END",
                "DROP TRIGGER tn",
                "DROP TRIGGER IF EXISTS tr",
                f"ALTER TABLE {table} RENAME TO t9",
            ]
        )
    )


@st.composite
def insert(draw: st.DrawFn) -> tuple[str, list[Any]]:
    names = draw(st.lists(COLUMNS, min_size=1, max_size=4, unique=True))
    or_what = draw(st.sampled_from(["", "", "", " OR IGNORE", " OR REPLACE", " OR FAIL", " OR ABORT"]))
    conflict = draw(
        st.sampled_from(["", "", "", " ON CONFLICT DO NOTHING", " ON CONFLICT (id) DO UPDATE SET a = excluded.a"])
    )
    head = f"INSERT{or_what} INTO {draw(TABLES)} ({', '.join(names)})"
    if draw(st.booleans()):
        values = [draw(VALUES) for _ in names]
        return f"{head} VALUES ({', '.join('?' * len(names))}){conflict}{draw(RETURNING)}", values
    rows = [f"({', '.join(draw(LITERALS) for _ in names)})" for _ in range(draw(st.integers(1, 3)))]
    return f"{head} VALUES {', '.join(rows)}{conflict}{draw(RETURNING)}", []


@st.composite
def change(draw: st.DrawFn) -> tuple[str, list[Any]]:
    table, where = draw(TABLES), draw(WHERE)
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return f"DELETE FROM {table}{where}{draw(RETURNING)}", []
    if kind == 1:
        return f"UPDATE {table} SET {draw(COLUMNS)} = ?{where}{draw(RETURNING)}", [draw(VALUES)]
    if kind == 2:
        return f"UPDATE OR IGNORE {table} SET {draw(COLUMNS)} = {draw(expressions())}{where}", []
    return f"INSERT INTO {table} (a, b) SELECT a, {draw(expressions(1))} FROM {draw(TABLES)} ORDER BY id LIMIT 3", []


@st.composite
def select(draw: st.DrawFn) -> tuple[str, list[Any]]:
    table, where = draw(TABLES), draw(WHERE)
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return f"SELECT * FROM {table}{where} ORDER BY id, a, b, c", []
    if kind == 1:
        found = ", ".join(draw(st.lists(expressions(), min_size=1, max_size=3)))
        return f"SELECT {found} FROM {table}{where} ORDER BY id, a, b, c LIMIT 5", []
    if kind == 2:
        aggregate = draw(st.sampled_from(AGGREGATES)).format(draw(COLUMNS))
        return (
            f"SELECT typeof(a) AS kind, {aggregate} AS n FROM (SELECT * FROM {table} ORDER BY id, a, b, c) GROUP BY 1",
            [],
        )
    if kind == 3:
        return f"SELECT x.id, y.a FROM {table} x JOIN {draw(TABLES)} y ON x.a = y.a ORDER BY 1, 2 LIMIT 9", []
    if kind == 4:
        # The newer SQLite here writes large numbers with more digits.
        value = draw(VALUES.filter(lambda value: not isinstance(value, int) or abs(value) < 10**15))
        return "SELECT ?1 AS v, typeof(?1), quote(?1), ?1 || '', ?1 + 1, ?1 = 5", [value]
    numbered = f"SELECT id, row_number() OVER (ORDER BY id, a, b, c) AS n FROM {table}{where}"
    return f"{numbered} UNION ALL SELECT {draw(LITERALS)}, 0 ORDER BY 2, 1", []


PLAIN = st.one_of(change_schema(), create_table()).map(lambda sql: (sql, []))
PRAGMAS = st.sampled_from(
    ["table_info(t0)", "foreign_key_list(t1)", "foreign_keys = off", "recursive_triggers", "index_list(t0)"]
)
WRONG = st.sampled_from(
    [
        "SELEKT 1",
        "SELECT nope FROM t0",
        "SELECT * FROM nope",
        "",
        " -- x",
        "BEGIN",
        "ATTACH 'x' AS y",
        "SELECT ?",
        "PRAGMA journal_mode",
        "VACUUM",
        "SELECT sqlite_version()",
    ]
)
BINDABLE = st.one_of(
    insert(),
    insert(),
    change(),
    select(),
    select(),
    PLAIN,
    PRAGMAS.map(lambda name: (f"PRAGMA {name}", [])),
    WRONG.map(lambda sql: (sql, [])),
    st.tuples(st.just("SELECT ?"), st.lists(VALUES, max_size=2)),
)
SEVERAL = st.sampled_from(
    [
        "INSERT INTO t0 (a) VALUES ('multi'); SELECT count(*) FROM t0",
        "DELETE FROM t0; SELECT nope",
        "SELECT nope; SELECT 2",
    ]
)
"""None of them has a row before the last statement: there Miniflare stumbles when such a text comes again."""
STATEMENTS = st.one_of(
    *[BINDABLE] * 8,
    SEVERAL.map(lambda sql: (sql, [])),
    st.tuples(st.just("SELECT ?"), st.lists(NO_VALUES, min_size=1, max_size=1)),
)
METHODS = st.sampled_from(
    [
        ("all", []),
        ("all", []),
        ("run", []),
        ("first", []),
        ("first", ["a"]),
        ("first", ["id"]),
        ("raw", []),
        ("raw", [{"columnNames": True}]),
    ]
)


@st.composite
def single(draw: st.DrawFn) -> list[Generated]:
    sql, values = draw(STATEMENTS)
    method, options = draw(METHODS)
    return [Generated(run(sql, *values, method=method, options=options))]


@st.composite
def batches(draw: st.DrawFn) -> list[Generated]:
    statements = draw(st.lists(BINDABLE, max_size=4))
    prepared: list[Generated] = []
    for sql, values in statements:
        calls = [["prepare", sql], *([["bind", *values]] if values else [])]
        prepared.append(Generated({"calls": calls}, "statement"))
    latest = [{"$latest": ["statement", back]} for back in reversed(range(len(prepared)))]
    return [*prepared, Generated({"calls": [["batch", latest]]})]


@st.composite
def scripts(draw: st.DrawFn) -> list[Generated]:
    # A script has no parameters. Which of two faults of a statement is told depends on what Miniflare has prepared.
    whole = insert().filter(lambda statement: not statement[1])
    lines = draw(st.lists(st.one_of(PLAIN, whole, WRONG.map(lambda sql: (sql, []))), min_size=1, max_size=3))
    return [Generated(exec("\n".join(sql for sql, _ in lines)))]


@st.composite
def sessions(draw: st.DrawFn) -> list[Generated]:
    start = draw(st.sampled_from([[], ["first-primary"], ["first-unconstrained"], [" "]]))
    sql, values = draw(STATEMENTS)
    session: Operation = {"$latest": ["session", 0]}
    bind = [["bind", *values]] if values else []
    return [
        Generated({"calls": [["withSession", *start]]}, "session"),
        Generated({"on": session, "calls": [["getBookmark"]]}),
        Generated({"on": session, "calls": [["prepare", sql], *bind, ["all"]]}),
    ]


@st.composite
def tables(draw: st.DrawFn) -> list[Generated]:
    return [Generated(run(draw(create_table()), method="run")) for _ in range(3)]


GROUPS = st.one_of(
    single(), single(), single(), single(), single(), batches(), scripts(), sessions(), tables(), tables()
)


@pytest.mark.timeout(3600)
def test_random_operations_with_javascripts_types(d1_js: Parity) -> None:
    assert check(d1_js, GROUPS) >= OPERATIONS
