"""A database as SQL text and back."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_bindings.d1.database import Statement
from host_bindings.d1.errors import D1Error
from host_bindings.d1.requests import DumpOptions
from tests.host_bindings.d1.conftest import DatabaseUnderTest, Sql

SCHEMA = """CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)
CREATE TABLE "odd ""name" (a, b GENERATED ALWAYS AS (a || '!') STORED)
CREATE TABLE notes (user REFERENCES users (id), text)
CREATE INDEX by_user ON notes (user)
CREATE VIEW named AS SELECT name FROM users
CREATE TRIGGER naming INSTEAD OF INSERT ON named BEGIN INSERT INTO users (name) VALUES (new.name); END
INSERT INTO users (id, name) VALUES (7, 'Ada'), (9, 'Grace')
INSERT INTO notes VALUES (9, 'first'), (7, NULL)
INSERT INTO "odd ""name" (a) VALUES ('x')"""

EXPORT = """PRAGMA defer_foreign_keys=TRUE;
CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);
CREATE TABLE IF NOT EXISTS "odd ""name" (a, b GENERATED ALWAYS AS (a || '!') STORED);
CREATE TABLE notes (user REFERENCES users (id), text);
INSERT INTO "users" VALUES(7,'Ada');
INSERT INTO "users" VALUES(9,'Grace');
INSERT INTO "odd ""name" VALUES('x');
INSERT INTO "notes" VALUES(9,'first');
INSERT INTO "notes" VALUES(7,NULL);
DELETE FROM sqlite_sequence;
INSERT INTO "sqlite_sequence" VALUES('users',9);
CREATE INDEX by_user ON notes (user);
CREATE VIEW named AS SELECT name FROM users;
CREATE TRIGGER naming INSTEAD OF INSERT ON named BEGIN INSERT INTO users (name) VALUES (new.name); END;
"""

_names = itertools.count()


def export(sql: Sql, db: DatabaseUnderTest, **options: object) -> Path:
    path = db.directory.parent / f"export-{next(_names)}.sql"
    sql.run(db.database.export(path, DumpOptions(**options)))  # type: ignore[arg-type]
    return path


def fill(sql: Sql, db: DatabaseUnderTest, text: str) -> int:
    """Imports a text; how many queries it had."""
    path = db.directory.parent / f"import-{next(_names)}.sql"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, newline="")
    return sql.run(db.database.import_file(path)).num_queries


def refusal(sql: Sql, db: DatabaseUnderTest, text: str) -> str:
    with pytest.raises(D1Error) as caught:
        fill(sql, db, text)
    return caught.value.message


def test_an_export_has_cloudflares_form(sql: Sql, db: DatabaseUnderTest) -> None:
    db.exec(SCHEMA)

    assert export(sql, db).read_text() == EXPORT


def test_what_was_exported_can_be_imported(sql: Sql, db: DatabaseUnderTest) -> None:
    db.exec(SCHEMA)
    first = export(sql, db).read_text()
    other = sql.database()

    fill(sql, other, first)

    assert export(sql, other).read_text() == first
    other.query("INSERT INTO named VALUES ('Edsger')")
    assert other.value("SELECT id FROM users WHERE name = 'Edsger'") == 10


def test_an_export_of_parts(sql: Sql, db: DatabaseUnderTest) -> None:
    db.exec(SCHEMA)

    assert "INSERT" not in export(sql, db, no_data=True, tables=["users", "notes"]).read_text()
    assert "CREATE" not in export(sql, db, no_schema=True).read_text()
    assert "Ada" not in export(sql, db, tables=["notes"]).read_text()


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text("'\"\\nr\n\r;\0-/*"),
    st.binary(),
)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(VALUES, VALUES), max_size=8))
def test_every_value_survives(sql: Sql, rows: list[tuple[object, object]]) -> None:
    first, second = sql.database(), sql.database()
    first.exec("CREATE TABLE t (a, b)")
    for row in rows:
        first.query("INSERT INTO t VALUES (?, ?)", *row)  # type: ignore[arg-type]

    fill(sql, second, export(sql, first).read_bytes().decode())

    look = "SELECT a, typeof(a), hex(a), b, typeof(b), hex(b) FROM t"
    assert second.rows(look) == first.rows(look)


def test_infinities_survive(sql: Sql, db: DatabaseUnderTest) -> None:
    db.exec("CREATE TABLE t (a)\nINSERT INTO t VALUES (9e999), (-9e999)")
    other = sql.database()

    fill(sql, other, export(sql, db).read_text())

    assert other.rows("SELECT a = 9e999, a = -9e999 FROM t") == [[1, 0], [0, 1]]


def test_a_row_of_any_size_survives(sql: Sql, db: DatabaseUnderTest) -> None:
    db.exec("CREATE TABLE t (a)\nINSERT INTO t VALUES (randomblob(990000))")
    other = sql.database()

    fill(sql, other, export(sql, db).read_text())

    assert other.rows("SELECT a FROM t") == db.rows("SELECT a FROM t")


def test_statements_may_stretch_over_lines(sql: Sql, db: DatabaseUnderTest) -> None:
    text = """-- a comment; with a semicolon
CREATE TABLE t (
  a TEXT -- and another;
);
CREATE TRIGGER tr AFTER INSERT ON t
BEGIN
  DELETE FROM t WHERE a = 'b;
';
END;
INSERT INTO t VALUES ('a'); INSERT INTO t VALUES ('c')"""

    assert fill(sql, db, text) == 3
    assert db.rows("SELECT a FROM t") == [["a"], ["c"]]


def test_a_failing_import_changes_nothing(sql: Sql, db: DatabaseUnderTest) -> None:
    message = refusal(sql, db, "CREATE TABLE t (a);\nINSERT INTO nope VALUES (1);\n")

    assert message == "D1_ERROR: no such table: nope: SQLITE_ERROR"
    assert db.rows("SELECT name FROM sqlite_schema") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("BEGIN TRANSACTION;\nCREATE TABLE t (a);\nCOMMIT;", "To execute a transaction, please use"),
        ("ATTACH '/tmp/x' AS y;", "not authorized: SQLITE_AUTH"),
        ("PRAGMA journal_mode = DELETE;", "not authorized: SQLITE_AUTH"),
        ("SELECT ?;", "Wrong number of parameter bindings for SQL query."),
        ("SELECT '" + "x" * 5_000_001, "statement too long: SQLITE_TOOBIG"),
    ],
)
def test_an_import_may_do_what_a_worker_may(sql: Sql, db: DatabaseUnderTest, text: str, message: str) -> None:
    assert refusal(sql, db, text).startswith(f"D1_ERROR: {message}")


def test_foreign_keys_are_checked_at_the_end(sql: Sql, db: DatabaseUnderTest) -> None:
    db.exec("CREATE TABLE c (p REFERENCES p (id))\nCREATE TABLE p (id INTEGER PRIMARY KEY)")
    db.exec("INSERT INTO p VALUES (1)\nINSERT INTO c VALUES (1)")
    text = export(sql, db).read_text()
    other = sql.database()

    message = refusal(sql, other, text.replace('INSERT INTO "p" VALUES(1);\n', ""))

    assert message.startswith("D1_ERROR: FOREIGN KEY constraint failed")
    fill(sql, other, text)
    assert other.rows("SELECT * FROM c") == [[1]]


def test_virtual_tables_are_not_exported(sql: Sql, db: DatabaseUnderTest) -> None:
    db.exec("CREATE VIRTUAL TABLE f USING fts5(a)")

    with pytest.raises(D1Error, match="cannot export databases with Virtual Tables"):
        export(sql, db)


def test_statements_after_a_file_belong_to_its_transaction(sql: Sql, db: DatabaseUnderTest) -> None:
    path = db.directory.parent / "last.sql"
    path.parent.mkdir(parents=True)
    path.write_text("CREATE TABLE t (a);")

    with pytest.raises(D1Error):
        sql.run(db.database.import_file(path, [Statement("INSERT INTO t VALUES (?)", ("x",)), Statement("SELEKT")]))

    assert db.rows("SELECT name FROM sqlite_schema") == []


def test_a_text_that_is_not_utf_8_is_refused(sql: Sql, db: DatabaseUnderTest) -> None:
    path = db.directory.parent / "latin.sql"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"SELECT '\xe9';")

    with pytest.raises(D1Error, match="The SQL text is not UTF-8"):
        sql.run(db.database.import_file(path))
