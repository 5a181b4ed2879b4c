"""What a statement's caller sees: rows, types, meta, and the texts of errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host_bindings.d1.database import Statement
from tests.host_bindings.d1.conftest import DatabaseUnderTest, Sql

# Results


def test_a_select_gives_columns_and_rows(db: DatabaseUnderTest) -> None:
    result = db.query("SELECT 1 AS one, 'two' AS two UNION ALL SELECT 3, 'four'")

    assert result.columns == ["one", "two"]
    assert result.rows == [[1, "two"], [3, "four"]]


def test_a_select_without_rows_still_has_columns(db: DatabaseUnderTest) -> None:
    assert db.query("SELECT 1 AS a WHERE 0").columns == ["a"]


def test_two_columns_of_one_name_are_both_there(db: DatabaseUnderTest) -> None:
    result = db.query("SELECT 1 AS a, 2 AS a")

    assert (result.columns, result.rows) == (["a", "a"], [[1, 2]])


def test_a_write_has_no_columns_and_one_with_returning_has(db: DatabaseUnderTest) -> None:
    db.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")

    assert db.query("INSERT INTO t (a) VALUES (1)").columns == []
    returning = db.query("INSERT INTO t (a) VALUES (?) RETURNING id, a", "x")

    assert (returning.columns, returning.rows) == (["id", "a"], [[2, "x"]])


@pytest.mark.parametrize("tail", ["", ";", " ;\n", "; -- done", "; /* done */ ;"])
def test_of_several_statements_in_one_text_the_last_ones_rows_come_back(db: DatabaseUnderTest, tail: str) -> None:
    result = db.query(
        "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2); SELECT 'é'; SELECT a FROM t WHERE a > ?" + tail, 1
    )

    assert result.rows == [[2]]


def test_only_the_last_statement_may_have_parameters(db: DatabaseUnderTest) -> None:
    assert db.error("SELECT ?; SELECT 1", 5) == (
        "D1_ERROR: When executing multiple SQL statements in a single call, "
        "only the last statement can have parameters."
    )


@pytest.mark.parametrize(
    ("sql_text", "params"),
    [("SELECT ?", ()), ("SELECT ?", (1, 2)), ("SELECT 1", (1,)), ("SELECT ?1, ?2", (1,)), ("SELECT 1; SELECT ?", ())],
)
def test_the_number_of_parameters_must_match(db: DatabaseUnderTest, sql_text: str, params: tuple[int, ...]) -> None:
    assert db.error(sql_text, *params) == "D1_ERROR: Wrong number of parameter bindings for SQL query."


def test_numbered_and_named_parameters_bind_by_position(db: DatabaseUnderTest) -> None:
    assert db.rows("SELECT ?2, ?1", "a", "b") == [["b", "a"]]
    assert db.rows("SELECT :x, @y", "a", "b") == [["a", "b"]]


@pytest.mark.parametrize("blank", ["", "  ", "\n", " -- only a comment", "\n-- one\n\t-- two"])
def test_a_text_of_white_space_and_indented_comments_counts_as_nothing(db: DatabaseUnderTest, blank: str) -> None:
    assert db.error(blank) == "D1_ERROR: No SQL statements detected."

    assert [result.rows for result in db.batch((blank,), ("SELECT 1",))] == [[[1]]]


@pytest.mark.parametrize("blank", [";", " ; ;", "-- nothing", "/* nothing */", "\n/* open"])
def test_another_text_without_a_statement_is_an_error(db: DatabaseUnderTest, blank: str) -> None:
    assert db.error(blank) == "D1_ERROR: SQL code did not contain a statement."


def test_text_in_double_quotes_that_names_nothing_is_a_string(db: DatabaseUnderTest) -> None:
    assert db.value('SELECT "no name"') == "no name"
    db.exec('CREATE TABLE quoted (a DEFAULT "text")')
    assert db.value("INSERT INTO quoted DEFAULT VALUES RETURNING a") == "text"


def test_an_empty_batch_is_an_error(db: DatabaseUnderTest) -> None:
    assert db.batch_error() == "D1_ERROR: No SQL statements detected."


# Types


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"),
        (1, "integer"),
        (2**53 + 1, "integer"),
        (2**63 - 1, "integer"),
        (-(2**63), "integer"),
        (2.0, "real"),
        (-0.5, "real"),
        (1e300, "real"),
        ("", "text"),
        ("é\0😀", "text"),
        (b"", "blob"),
        (b"\x00\xff", "blob"),
    ],
)
def test_a_value_keeps_its_type_and_comes_back_exact(db: DatabaseUnderTest, value: Any, kind: str) -> None:
    ((back, its_type),) = db.rows("SELECT ?1, typeof(?1)", value)

    assert (back, type(back), its_type) == (value, type(value), kind)


def test_booleans_are_stored_as_one_and_zero(db: DatabaseUnderTest) -> None:
    assert db.rows("SELECT ?, ?", True, False) == [[1, 0]]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_json_cannot_say_is_null(db: DatabaseUnderTest, number: float) -> None:
    assert db.value("SELECT ?", number) is None


def test_an_infinity_that_sql_makes_comes_back_as_null(db: DatabaseUnderTest) -> None:
    assert db.value("SELECT 9e999") is None


def test_json_numbers_tell_integer_from_real(db: DatabaseUnderTest) -> None:
    request = '{"statements": [{"sql": "SELECT ?, ?, ?, 10000000000000000.0", "params": [2, 2.0, 9007199254740993]}]}'

    answer = db.query_json(request)

    assert '"rows":[[2,2.0,9007199254740993,1e16]]' in answer


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**63, "D1_TYPE_ERROR: Type 'bigint' not supported for value '9223372036854775808'"),
        ({"a": 1}, "D1_TYPE_ERROR: Type 'object' not supported for value '[object Object]'"),
        ([1], "D1_TYPE_ERROR: Type 'object' not supported for value '[object Array]'"),
        ({"$bytes": "?"}, "D1_ERROR: The value of $bytes is not base64."),
    ],
)
def test_a_value_that_sql_does_not_have_is_refused(db: DatabaseUnderTest, value: Any, text: str) -> None:
    assert db.error("SELECT ?", value) == text


def test_text_that_is_not_utf8_is_an_error_that_says_what_to_do(db: DatabaseUnderTest) -> None:
    assert "hex()" in db.error("SELECT CAST(x'ff' AS TEXT)")
    assert db.value("SELECT CAST(CAST(x'ff' AS TEXT) AS BLOB)") == b"\xff"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.none()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"]))
        | st.binary(),
        min_size=1,
        max_size=20,
    )
)
def test_any_row_of_values_comes_back_as_it_went_in(db: DatabaseUnderTest, values: list[Any]) -> None:
    (back,) = db.rows(f"SELECT {', '.join('?' * len(values))}", *values)

    assert [(type(value), value) for value in back] == [(type(value), value) for value in values]


@pytest.mark.parametrize(
    "request_text",
    [
        "", "{", "[]", "{}", '{"statements": {}}', '{"statements": [{}]}', '{"statements": [{"sql": 5}]}',
        '{"sql": ["SELECT 1"], "runs": [[1, []]]}', '{"sql": ["SELECT 1"], "runs": [[-1, []]]}', "[" * 100_000,
        '{"sql": ["SELECT 1"]}', '{"runs": [[0, []]]}',
        '{"sql": ["SELECT 1"], "runs": [[0]]}', '{"sql": ["SELECT 1"], "runs": [["0", []]]}',
        '{"sql": [5], "runs": [[0, []]]}', '{"sql": ["SELECT 1"], "runs": [[0, {}]]}',
    ],
)  # fmt: skip
def test_a_request_that_is_not_one_is_refused(db: DatabaseUnderTest, request_text: str) -> None:
    with pytest.raises(Exception, match=r"D1_ERROR: The request is not"):
        db.query_json(request_text)


def each_of(values: Any, count: int) -> list[Any]:
    """A value for each result, from the compact form."""
    return values if isinstance(values, list) else [values] * count


def test_the_compact_form_says_what_the_plain_one_does(db: DatabaseUnderTest) -> None:
    texts = ["INSERT INTO t (a) VALUES (?)", "SELECT id, a FROM t", " -- left out", "SELECT a AS id, id AS a FROM t"]
    runs: list[tuple[int, list[Any]]] = [(0, ["x"]), (1, []), (0, [{"$bytes": "AP8="}]), (2, []), (1, []), (3, [])]
    statements = [{"sql": texts[index], "params": values} for index, values in runs]
    db.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")

    compact = json.loads(db.query_json(json.dumps({"sql": texts, "runs": runs, "bookmark": True})))
    db.exec("DELETE FROM t")
    plain = json.loads(db.query_json(json.dumps({"statements": statements, "bookmark": True})))

    assert compact.keys() == {"count", "columns", "which", "rows", "meta", "served_by", "bookmark"}
    assert (compact["count"], compact["columns"], compact["which"]) == (5, [[], ["id", "a"]], [0, 1, 0, 1, 1])
    assert compact["rows"] == [each["rows"] for each in plain]
    for name, values in compact["meta"].items():
        if name != "duration":
            assert each_of(values, 5) == [each["meta"][name] for each in plain]
    assert compact["meta"].keys() == plain[0]["meta"].keys() - {"served_by"}
    assert compact["served_by"] == plain[0]["meta"]["served_by"]


# Meta


def test_meta_counts_changes_and_tells_the_row_id(db: DatabaseUnderTest) -> None:
    created = db.query("CREATE TABLE t (id INTEGER PRIMARY KEY, a)").meta
    inserted = db.query("INSERT INTO t (id, a) VALUES (7, 1), (8, 2)").meta
    read = db.query("SELECT * FROM t").meta
    nothing = db.query("DELETE FROM t WHERE id = 99").meta

    assert (created.changes, created.changed_db) == (0, True)
    assert (inserted.changes, inserted.rows_written, inserted.last_row_id, inserted.changed_db) == (2, 2, 8, True)
    assert (read.changes, read.rows_read, read.last_row_id, read.changed_db) == (0, 2, 8, False)
    assert (nothing.changes, nothing.changed_db) == (0, False)
    assert read.served_by == "cloister"
    assert read.duration >= 0


def test_meta_counts_what_triggers_change(db: DatabaseUnderTest) -> None:
    db.exec(
        "CREATE TABLE t (a)\nCREATE TABLE log (a)\n"
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.a); END"
    )

    assert db.query("INSERT INTO t VALUES (1)").meta.changes == 2


def test_meta_counts_the_rows_of_a_full_scan(db: DatabaseUnderTest) -> None:
    db.query("CREATE TABLE t (a); INSERT INTO t SELECT value FROM json_each('[1,2,3,4,5,6,7,8,9,10]')")

    assert db.query("SELECT a FROM t WHERE a > 8").meta.rows_read == 10


def test_what_is_known_of_a_statement_ends_with_the_schema_that_it_was_seen_with(db: DatabaseUnderTest) -> None:
    insert = "INSERT INTO t (a) VALUES (?)"
    db.query("CREATE TABLE t (a)")
    before = [db.query(insert, n).meta.rows_written for n in range(3)]
    db.query("CREATE INDEX i ON t (a)")
    indexed, _, dropped = db.batch((insert, 4), ("DROP INDEX i",), (insert, 5))

    assert before == [1, 1, 1]
    assert (indexed.meta.rows_written, dropped.meta.rows_written) == (2, 1)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)",
        ";; INSERT INTO t VALUES ('é'); -- one\n INSERT INTO t VALUES (x'ff'); ; /* two */",
        "SELECT 'ü😀'; INSERT INTO t VALUES (1), (2); -- INSERT INTO t VALUES (3)",
        "INSERT INTO t VALUES (1), (2) RETURNING a; SELECT 1",
    ],
)
def test_looking_at_a_statements_program_runs_nothing(db: DatabaseUnderTest, text: str) -> None:
    db.query("CREATE TABLE t (a)")
    for times in (1, 2, 3):
        db.query(text)
        assert db.value("SELECT count(*) FROM t") == 2 * times


def test_a_statement_that_is_run_again_gives_the_columns_of_now(db: DatabaseUnderTest) -> None:
    db.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, a)\nINSERT INTO t VALUES (1, 2)")
    first, again = (db.query("SELECT * FROM t WHERE id = ?", 1) for _ in range(2))
    db.query("ALTER TABLE t ADD COLUMN b DEFAULT 3")
    changed = db.query("SELECT * FROM t WHERE id = ?", 1)

    assert (again.columns, again.rows) == (first.columns, first.rows) == (["id", "a"], [[1, 2]])
    assert (changed.columns, changed.rows) == (["id", "a", "b"], [[1, 2, 3]])


def test_a_statement_that_is_run_again_keeps_to_the_limits(db: DatabaseUnderTest) -> None:
    db.query("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    db.query("INSERT INTO t SELECT value FROM json_each(?)", json.dumps(list(range(5001))))
    sql_text = "SELECT id FROM t WHERE id >= ?"

    assert len(db.rows(sql_text, 2)) == len(db.rows(sql_text, 2)) == 4999
    assert "more than 5000 rows" in db.error(sql_text, 0)
    assert "Wrong number of parameter bindings" in db.error(sql_text)
    assert len(db.rows(sql_text, 1)) == 5000


def test_size_after_is_the_files_size(db: DatabaseUnderTest) -> None:
    size = db.query("CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(100000))").meta.size_after

    assert size % 4096 == 0
    assert 100_000 < size < 200_000


def test_a_table_that_exists_already_is_no_change(db: DatabaseUnderTest) -> None:
    db.query("CREATE TABLE IF NOT EXISTS t (a)")

    assert db.query("CREATE TABLE IF NOT EXISTS t (a)").meta.changed_db is False


# Errors


@pytest.mark.parametrize(
    ("sql_text", "text"),
    [
        ("SELECT * FROM nowhere", "no such table: nowhere: SQLITE_ERROR"),
        ("SELEKT 1", 'near "SELEKT": syntax error at offset 0: SQLITE_ERROR'),
        ("SELECT nope", "no such column: nope at offset 7: SQLITE_ERROR"),
        (
            "INSERT INTO t (id) VALUES (1)",
            "UNIQUE constraint failed: t.id: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_PRIMARYKEY)",
        ),
        (
            "INSERT INTO t (n) VALUES (NULL)",
            "NOT NULL constraint failed: t.n: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_NOTNULL)",
        ),
        (
            "INSERT INTO c VALUES (99)",
            "FOREIGN KEY constraint failed: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_FOREIGNKEY)",
        ),
        ("SELECT json('{')", "malformed JSON: SQLITE_ERROR"),
        ("SELECT 1\0", "The SQL text holds a NUL character: SQLITE_ERROR"),
    ],
)
def test_errors_have_the_texts_of_d1(db: DatabaseUnderTest, sql_text: str, text: str) -> None:
    db.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, n NOT NULL DEFAULT 0)\nINSERT INTO t (id) VALUES (1)")
    db.exec("CREATE TABLE c (t REFERENCES t (id))")

    assert db.error(sql_text) == f"D1_ERROR: {text}"


def test_half_a_surrogate_pair_is_refused(sql: Sql, db: DatabaseUnderTest) -> None:
    with pytest.raises(Exception, match="D1_ERROR"):
        db.query_json('{"statements": [{"sql": "SELECT \'\ud800\'"}]}')
    with pytest.raises(Exception, match="D1_TYPE_ERROR"):
        sql.run(db.database.query([Statement("SELECT ?", ["\ud800"])]))


# exec


def test_exec_runs_a_script_line_by_line(db: DatabaseUnderTest) -> None:
    assert db.exec("\nCREATE TABLE t (a); CREATE TABLE u (a)\n\nINSERT INTO t VALUES (1)\nSELECT * FROM t\n") == 3
    assert db.value("SELECT count(*) FROM t") == 1


def test_exec_takes_a_statement_only_on_one_line(db: DatabaseUnderTest) -> None:
    assert db.exec_error("SELECT\n1") == "D1_EXEC_ERROR: Error in line 1: SELECT: incomplete input: SQLITE_ERROR"


def test_exec_that_fails_leaves_nothing_behind(db: DatabaseUnderTest) -> None:
    error = db.exec_error("CREATE TABLE t (a)\nSELEKT")

    assert error.startswith("D1_EXEC_ERROR: Error in line 1: CREATE TABLE t (a): ")
    assert db.rows("SELECT name FROM sqlite_master") == []


def test_exec_of_nothing_is_an_error(db: DatabaseUnderTest) -> None:
    assert "No SQL statements detected." in db.exec_error(" \n ")


# What D1 offers of SQLite


def test_full_text_search_json_rtree_window_and_math_work(db: DatabaseUnderTest) -> None:
    db.exec("CREATE VIRTUAL TABLE notes USING fts5 (text)\nINSERT INTO notes VALUES ('a quick fox'), ('a slow dog')")
    db.exec("CREATE VIRTUAL TABLE boxes USING rtree (id, low, high)\nINSERT INTO boxes VALUES (1, 2.0, 3.0)")
    db.exec("CREATE VIRTUAL TABLE words USING fts5vocab ('notes', 'row')")

    assert db.rows("SELECT highlight(notes, 0, '<', '>') FROM notes WHERE notes MATCH ? ORDER BY rank", "fox") == [
        ["a quick <fox>"]
    ]
    assert db.rows("SELECT id FROM boxes WHERE low < 2.5") == [[1]]
    assert db.value("SELECT doc FROM words WHERE term = 'a'") == 2
    assert db.value("""SELECT json_extract('{"a": [1, 2]}', '$.a[1]')""") == 2
    assert db.value("SELECT group_concat(value) FROM json_each('[1, 2]')") == "1,2"
    assert db.rows("SELECT row_number() OVER (ORDER BY value DESC) FROM json_each('[1, 2]')") == [[1], [2]]
    assert db.value("SELECT sqrt(16)") == 4.0
    db.query("DROP TABLE notes")


def test_tables_can_be_altered(db: DatabaseUnderTest) -> None:
    db.exec("CREATE TABLE t (a, b AS (a + 1) STORED)\nCREATE INDEX i ON t (a)\nCREATE VIEW v AS SELECT a FROM t")
    for change in ("ADD COLUMN c DEFAULT 5", "RENAME COLUMN c TO d", "RENAME TO u", "DROP COLUMN d"):
        db.query(f"ALTER TABLE {'u' if change.startswith('DROP') else 't'} {change}")
    db.query("INSERT INTO u (a) VALUES (1)")

    assert db.rows("SELECT a, b FROM u") == [[1, 2]]
    assert db.rows("SELECT * FROM v") == [[1]]
    db.exec("ANALYZE\nREINDEX\nDROP VIEW v\nDROP INDEX i\nDROP TABLE u")


@pytest.mark.parametrize(
    "pragma",
    [
        "PRAGMA table_info(t)", "PRAGMA main.table_xinfo(t)", "PRAGMA table_list", "PRAGMA index_list(t)",
        "PRAGMA index_info(i)", "PRAGMA index_xinfo(i)", "PRAGMA foreign_key_list(t)", "PRAGMA foreign_key_check",
        "PRAGMA foreign_key_check(t)", "PRAGMA quick_check", "PRAGMA quick_check(1)", "PRAGMA quick_check(t)",
        "PRAGMA optimize", "PRAGMA optimize(0xfffe)", "PRAGMA data_version", "PRAGMA page_size", "PRAGMA foreign_keys",
        "PRAGMA foreign_keys = off", "PRAGMA defer_foreign_keys = on", "PRAGMA case_sensitive_like = yes",
        "PRAGMA ignore_check_constraints = 1", "PRAGMA legacy_alter_table = true", "PRAGMA recursive_triggers = 1",
        "PRAGMA reverse_unordered_selects = 1", "SELECT * FROM pragma_table_info('t')",
    ],
)  # fmt: skip
def test_these_pragmas_are_allowed(db: DatabaseUnderTest, pragma: str) -> None:
    db.exec("CREATE TABLE t (a)\nCREATE INDEX i ON t (a)")

    db.query(pragma)


def test_sql_is_never_seen_as_a_format(db: DatabaseUnderTest) -> None:
    """The JSON in and out is made by a JSON library only, whatever the names."""
    name = 'a"],"rows":[[1]]},{"x":["'

    result = db.query(f"SELECT 1 AS '{name}'")

    assert result.columns == [name]
    assert json.loads(db.query_json('{"statements": [{"sql": "SELECT 1"}]}'))[0]["rows"] == [[1]]
