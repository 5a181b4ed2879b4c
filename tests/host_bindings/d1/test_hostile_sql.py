"""SQL that wants out of its database, or wants more than its share of the machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from host_bindings.d1.connection import FILE_NAME
from host_bindings.d1.database import Database, Statement
from host_bindings.d1.errors import D1Error
from host_bindings.d1.limits import MIB
from tests.host_bindings.d1.conftest import QUICK, DatabaseUnderTest, Sql, running

COUNT = "c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
"""A table without an end."""


def files_below(directory: Path) -> set[str]:
    return {path.name for path in directory.rglob("*") if path.is_file()}


OWN_FILES = {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}


@pytest.fixture
def stocked(db: DatabaseUnderTest) -> DatabaseUnderTest:
    db.exec("CREATE TABLE t (a, b)\nINSERT INTO t VALUES (1, 2)")
    return db


# Out of the database


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH '/etc/passwd' AS p",
        "ATTACH ':memory:' AS m",
        "ATTACH 'other.sqlite' AS o",
        "DETACH main",
        "CREATE TEMP TABLE x (a)",
        "CREATE TEMP VIEW x AS SELECT 1",
        "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END",
        "CREATE TABLE temp.x (a)",
        "CREATE VIRTUAL TABLE x USING dbstat",
        "CREATE VIRTUAL TABLE x USING fts4 (a)",
        "CREATE VIRTUAL TABLE x USING geopoly (a)",
        "CREATE VIRTUAL TABLE x USING json_each",
        "CREATE VIRTUAL TABLE temp.x USING fts5 (a)",
        "CREATE TABLE _cf_x (a)",
        "CREATE TABLE _CF_X (a)",
        "CREATE INDEX _cf_i ON t (a)",
        "CREATE VIEW _cf_v AS SELECT 1",
        "CREATE TRIGGER _cf_g AFTER INSERT ON t BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE _cf_f USING fts5 (a)",
        "ALTER TABLE t RENAME TO _cf_t",
        'ALTER TABLE t RENAME TO "_Cf_t"',
        "PRAGMA writable_schema = 1",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA main.journal_mode",
        "PRAGMA synchronous = OFF",
        "PRAGMA max_page_count = 1000000",
        "PRAGMA temp_store_directory = '/tmp'",
        "PRAGMA temp_store = FILE",
        "PRAGMA data_store_directory = '/tmp'",
        "PRAGMA mmap_size = 1000000000",
        "PRAGMA cache_size = 1000000",
        "PRAGMA cache_spill = 0",
        "PRAGMA hard_heap_limit = 0",
        "PRAGMA soft_heap_limit = 0",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA wal_autocheckpoint = 0",
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA busy_timeout = 0",
        "PRAGMA threads = 8",
        "PRAGMA trusted_schema = 1",
        "PRAGMA user_version = 5",
        "PRAGMA application_id",
        "PRAGMA schema_version = 1",
        "PRAGMA page_count",
        "PRAGMA page_size = 512",
        "PRAGMA encoding",
        "PRAGMA compile_options",
        "PRAGMA function_list",
        "PRAGMA module_list",
        "PRAGMA database_list",
        "PRAGMA integrity_check",
        "PRAGMA incremental_vacuum",
        "PRAGMA secure_delete = 0",
        "PRAGMA table_info",
        "PRAGMA temp.table_info(t)",
        "PRAGMA foreign_keys = 'whatever'",
        "PRAGMA optimize('x')",
        "SELECT * FROM pragma_database_list",
        "SELECT * FROM pragma_compile_options",
    ],
)
def test_what_reaches_beyond_the_tables_is_denied(stocked: DatabaseUnderTest, statement: str) -> None:
    before = stocked.rows("SELECT type, name, sql FROM sqlite_master")

    for _ in range(2):  # a cached statement would be allowed the second time
        assert stocked.error(statement).endswith("not authorized: SQLITE_AUTH")

    assert stocked.rows("SELECT type, name, sql FROM sqlite_master") == before
    assert files_below(stocked.directory.parent) <= OWN_FILES


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("VACUUM", "cannot VACUUM from within a transaction: SQLITE_ERROR"),
        ("VACUUM INTO '/tmp/stolen.sqlite'", "cannot VACUUM from within a transaction: SQLITE_ERROR"),
        ("SELECT load_extension('x')", "not authorized to use function: load_extension at offset 7: SQLITE_ERROR"),
        ("SELECT sqlite_version()", "not authorized to use function: sqlite_version at offset 7: SQLITE_ERROR"),
        ("SELECT sqlite_source_id()", "not authorized to use function: sqlite_source_id at offset 7: SQLITE_ERROR"),
        ("UPDATE sqlite_master SET sql = ''", "table sqlite_master may not be modified: SQLITE_ERROR"),
        ("DELETE FROM sqlite_schema", "table sqlite_master may not be modified: SQLITE_ERROR"),
        ("DROP TABLE sqlite_master", "table sqlite_master may not be dropped: SQLITE_ERROR"),
        ("SELECT * FROM carray(1, 2)", "access to carray.value is prohibited: SQLITE_AUTH"),
        ("SELECT * FROM dbstat", "no such table: dbstat: SQLITE_ERROR"),
        ("SELECT * FROM sqlite_dbpage", "no such table: sqlite_dbpage: SQLITE_ERROR"),
        ("SELECT * FROM sqlite_stmt", "no such table: sqlite_stmt: SQLITE_ERROR"),
        ("SELECT readfile('/etc/passwd')", "no such function: readfile at offset 7: SQLITE_ERROR"),
        ("SELECT 'a' REGEXP 'a'", "no such function: REGEXP at offset 11: SQLITE_ERROR"),
    ],
)
def test_other_ways_out_are_closed_too(stocked: DatabaseUnderTest, statement: str, text: str) -> None:
    assert stocked.error(statement) == f"D1_ERROR: {text}"


def test_the_shadow_tables_of_full_text_search_cannot_be_written(stocked: DatabaseUnderTest) -> None:
    stocked.query("CREATE VIRTUAL TABLE f USING fts5 (x)")

    assert "may not be modified" in stocked.error("DELETE FROM f_data")


def test_a_tables_name_can_hold_anything_but_reaches_no_file(db: DatabaseUnderTest) -> None:
    db.query('CREATE TABLE "../../x\n/etc" (a)')

    assert files_below(db.directory.parent) <= OWN_FILES


def test_a_path_that_is_a_symbolic_link_is_not_followed(sql: Sql, stocked: DatabaseUnderTest) -> None:
    other = sql.database()
    other.directory.mkdir(parents=True)
    (other.directory / FILE_NAME).symlink_to(stocked.directory / FILE_NAME)

    assert "SQLITE_CANTOPEN" in other.error("SELECT * FROM t")


def test_a_file_that_is_no_database_is_an_error_of_its_own_only(sql: Sql, stocked: DatabaseUnderTest) -> None:
    other = sql.database()
    other.directory.mkdir(parents=True)
    (other.directory / FILE_NAME).write_bytes(b"not a database, but as long as one" * 1000)

    assert other.error("SELECT 1") == "D1_ERROR: file is not a database: SQLITE_NOTADB"
    assert stocked.value("SELECT a FROM t") == 1


def test_the_files_are_the_owners_alone(stocked: DatabaseUnderTest) -> None:
    for path in (stocked.directory, *stocked.directory.iterdir()):
        assert path.stat().st_mode & 0o077 == 0


def test_one_database_does_not_see_another_in_the_same_process(sql: Sql) -> None:
    first, second = sql.database(), sql.database()
    first.exec("CREATE TABLE secrets (a)\nINSERT INTO secrets VALUES ('first')")

    assert second.error("SELECT * FROM secrets") == "D1_ERROR: no such table: secrets: SQLITE_ERROR"
    second.exec("CREATE TABLE secrets (a)\nINSERT INTO secrets VALUES ('second')")
    for _ in range(3):  # the same text: the statements are cached by connection
        assert first.value("SELECT a FROM secrets") == "first"
        assert second.value("SELECT a FROM secrets") == "second"


# Too much at once


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("SELECT randomblob(1000000000)", "string or blob too big: SQLITE_TOOBIG"),
        ("SELECT zeroblob(1000000000)", "string or blob too big: SQLITE_TOOBIG"),
        ("SELECT printf('%1000000000d', 1)", "string or blob too big: SQLITE_TOOBIG"),
        ("SELECT replace(hex(zeroblob(900000)), '0', 'xxxxxxxxxx')", "string or blob too big: SQLITE_TOOBIG"),
        ("SELECT '" + "x" * 10_000_000 + "'", "statement too long: SQLITE_TOOBIG"),
        ("SELECT " + ", ".join("?" * 10_000), "too many SQL variables at offset 307: SQLITE_ERROR"),
        ("SELECT ?10000", "variable number must be between ?1 and ?100 at offset 7: SQLITE_ERROR"),
        (f"CREATE TABLE w ({', '.join(f'c{i}' for i in range(101))})", "too many columns on w: SQLITE_ERROR"),
        ("SELECT 1" + " UNION SELECT 1" * 5, "too many terms in compound SELECT: SQLITE_ERROR"),
        ("SELECT '' LIKE '" + "%a" * 26 + "'", "LIKE or GLOB pattern too complex: SQLITE_ERROR"),
        ("SELECT '' GLOB '" + "*a" * 26 + "'", "LIKE or GLOB pattern too complex: SQLITE_ERROR"),
        (f"SELECT max({', '.join('1' * 33)})", "too many arguments on function max at offset 7: SQLITE_ERROR"),
    ],
)
def test_a_value_or_text_beyond_the_limits_is_refused(db: DatabaseUnderTest, statement: str, text: str) -> None:
    error = db.error(statement)

    assert error.split(" at offset ")[0] == f"D1_ERROR: {text}".split(" at offset ")[0]
    assert error.endswith(text.rpartition(": ")[2])


@pytest.mark.parametrize(
    "expression",
    ["(" * 5_000 + "1" + ")" * 5_000, "+".join("1" * 5_000), "NOT " * 5_000 + "1", "- " * 5_000 + "1"],
)
def test_a_deep_expression_is_refused(db: DatabaseUnderTest, expression: str) -> None:
    error = db.error(f"SELECT {expression}")

    assert "depth" in error or "Recursion limit" in error


def test_ten_thousand_parameters_for_one_placeholder_are_refused(db: DatabaseUnderTest) -> None:
    assert "Wrong number of parameter bindings" in db.error("SELECT ?", *range(10_000))


def test_a_request_larger_than_allowed_does_not_reach_a_process(db: DatabaseUnderTest) -> None:
    assert "The request is larger than" in db.error("SELECT ?", "x" * QUICK.request_bytes)


def test_a_batch_has_a_bounded_number_of_statements(db: DatabaseUnderTest) -> None:
    assert "at most 1000 statements" in db.batch_error(*[("SELECT 1",)] * 1001)


def test_a_result_has_a_bounded_number_of_rows(db: DatabaseUnderTest) -> None:
    rows = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 6000) SELECT x FROM c"

    assert db.error(rows) == "D1_ERROR: The result has more than 5000 rows. Use LIMIT."
    assert "more than 5000 rows" in db.batch_error(*[(f"{rows} WHERE x <= 2000",)] * 3)


def test_a_result_has_a_bounded_size(db: DatabaseUnderTest) -> None:
    blobs = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 50) SELECT randomblob(100000) FROM c"

    assert db.error(blobs) == f"D1_ERROR: The result is larger than {QUICK.result_bytes} bytes. Use LIMIT."


def test_names_of_columns_count_among_the_bytes_of_a_result(db: DatabaseUnderTest) -> None:
    db.exec(f"CREATE TABLE wide ({', '.join(f'{chr(34)}{n:0900}{chr(34)}' for n in range(100))})")

    error = db.batch_error(("INSERT INTO wide DEFAULT VALUES",), *[("SELECT * FROM wide LIMIT 0",)] * 60)

    assert error == f"D1_ERROR: The result is larger than {QUICK.result_bytes} bytes. Use LIMIT."
    assert db.value("SELECT count(*) FROM wide") == 0


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sql]:
    """Little memory and much time."""
    limits = replace(QUICK, heap_bytes=16 * MIB, request_ms=60_000)
    with running(tmp_path_factory.mktemp("narrow"), limits, processes=1) as sql:
        yield sql


@pytest.mark.parametrize(
    "statement",
    [
        f"WITH RECURSIVE {COUNT} SELECT x, randomblob(100000) AS r FROM c ORDER BY r",
        "WITH RECURSIVE c (x) AS (SELECT randomblob(1000000) UNION SELECT randomblob(999999) FROM c) SELECT 1 FROM c",
        "SELECT " + ", ".join(["randomblob(1900000)"] * 90),
    ],
    ids=["sort", "union", "row"],
)
def test_what_needs_too_much_memory_fails_and_spills_to_no_file(narrow: Sql, statement: str) -> None:
    db = narrow.database()

    assert db.error(statement) == "D1_ERROR: D1 DB's isolate exceeded its memory limit and was reset."

    assert files_below(db.directory.parent) <= OWN_FILES
    assert db.value("SELECT 1") == 1


def test_a_database_does_not_grow_past_its_quota(db: DatabaseUnderTest) -> None:
    db.query("CREATE TABLE t (a)")
    errors = []
    for _ in range(30):
        try:
            db.query("INSERT INTO t VALUES (randomblob(300000))")
        except D1Error as error:
            errors.append(error.message)

    assert set(errors) == {"D1_ERROR: Exceeded maximum DB size."}
    assert (db.directory / FILE_NAME).stat().st_size <= QUICK.database_bytes
    assert (db.directory / f"{FILE_NAME}-wal").stat().st_size <= 6 * QUICK.database_bytes
    db.query("DELETE FROM t")
    db.query("INSERT INTO t VALUES (1)")


def test_one_statement_cannot_fill_the_disk_either(db: DatabaseUnderTest) -> None:
    db.query("CREATE TABLE t (a)")

    error = db.error(f"WITH RECURSIVE {COUNT} INSERT INTO t SELECT randomblob(100000) FROM c")

    assert error == "D1_ERROR: Exceeded maximum DB size."
    assert sum(path.stat().st_size for path in db.directory.iterdir()) < 4 * QUICK.database_bytes
    assert db.value("SELECT count(*) FROM t") == 0


# Too long

ENDLESS = [
    f"WITH RECURSIVE {COUNT} SELECT count(*) FROM c",
    "SELECT count(*) FROM d AS d1, d AS d2, d AS d3, d AS d4, d AS d5, d AS d6",
    f"WITH RECURSIVE {COUNT} SELECT max(randomblob(1000)) FROM c",
    f"WITH RECURSIVE {COUNT} UPDATE d SET x = (SELECT max(x) FROM c)",
]

# One opcode that runs for many seconds: no interrupt reaches it.
BOMBS = [
    "SELECT instr(zeroblob(1999000), CAST(zeroblob(999000) || x'01' AS BLOB))",
    "SELECT replace(hex(zeroblob(990000)), hex(zeroblob(490000)) || 'x', 'y')",
    "SELECT instr(hex(zeroblob(990000)), hex(zeroblob(490000)) || 'x')",
]


@pytest.fixture
def warm(sql: Sql) -> Sql:
    """Both processes run."""

    async def occupy() -> None:
        first, second = sql.database().database, sql.database().database
        slow = asyncio.create_task(first.query([Statement(ENDLESS[0])]))
        while len(sql.service.process_ids) < 2:
            await second.query([Statement("SELECT 1")])
        await asyncio.wait([slow])
        assert slow.exception()

    if len(sql.service.process_ids) < 2:
        sql.run(occupy())
    return sql


@pytest.fixture
def digits(db: DatabaseUnderTest) -> DatabaseUnderTest:
    db.exec("CREATE TABLE d (x)\nINSERT INTO d SELECT value FROM json_each(json_array(0,1,2,3,4,5,6,7,8,9))")
    for _ in range(2):
        db.query("INSERT INTO d SELECT d1.x FROM d AS d1, d AS d2 LIMIT 100")
    return db


@pytest.mark.parametrize("statement", ENDLESS + BOMBS)
def test_what_runs_too_long_is_ended_while_others_go_on(warm: Sql, digits: DatabaseUnderTest, statement: str) -> None:
    bystander = warm.database()
    bystander.exec("CREATE TABLE t (n)\nINSERT INTO t VALUES (0)")
    before = digits.value("SELECT count(*) FROM d")

    async def attack_and_watch() -> tuple[str, int]:
        attack = asyncio.create_task(digits.database.query([Statement(statement)]))
        count = 0
        while not attack.done():
            await bystander.database.query([Statement("UPDATE t SET n = n + 1")])
            count += not attack.done()
        with pytest.raises(D1Error) as caught:
            await attack
        return caught.value.message, count

    message, count = warm.run(attack_and_watch())

    assert message == "D1_ERROR: D1 DB exceeded its CPU time limit and was reset."
    assert count > 0, "the bystander waited for the attacker's end"
    assert bystander.value("SELECT n FROM t") >= count
    assert digits.value("SELECT count(*) FROM d") == before


def test_a_json_patch_bomb_is_ended(db: DatabaseUnderTest) -> None:
    """Quadratic in the number of keys; a table gives it its text, since none of the limits allows it in a literal."""
    db.query("CREATE TABLE j (a)")
    keys = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 70000) "
    db.query(f"{keys} INSERT INTO j SELECT json_group_object('key' || x, x) FROM c")

    assert db.error("SELECT length(json_patch(a, a)) FROM j") == (
        "D1_ERROR: D1 DB exceeded its CPU time limit and was reset."
    )


def test_blank_text_made_of_comments_costs_no_time(db: DatabaseUnderTest) -> None:
    assert "syntax error" in db.error("/**/" * 24_000 + "x")


def test_an_owner_with_many_databases_gets_one_share(warm: Sql) -> None:
    """Endless queries on many databases of one owner leave the last process to others."""
    attackers = [warm.database(owner="greedy") for _ in range(6)]
    bystander = warm.database()
    bystander.value("SELECT 1")

    async def attack_and_watch() -> int:
        attacks = [asyncio.create_task(attacker.database.query([Statement(ENDLESS[0])])) for attacker in attackers]
        waited = 0
        for _ in range(20):
            await asyncio.sleep(0.02)
            ended = sum(attack.done() for attack in attacks)
            await bystander.database.query([Statement("SELECT 1")])
            waited += sum(attack.done() for attack in attacks) > ended
        outcomes = await asyncio.gather(*attacks, return_exceptions=True)
        assert all(isinstance(outcome, D1Error) for outcome in outcomes)
        return waited

    assert warm.run(attack_and_watch()) < 10, "most requests waited for an attack's end"


# The process itself


def test_the_process_has_no_environment_and_is_confined(
    sql: Sql, db: DatabaseUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOISTER_ADMIN_TOKEN", "secret")
    db.value("SELECT 1")

    for process_id in sql.service.process_ids:
        environment = Path(f"/proc/{process_id}/environ").read_bytes()
        status = Path(f"/proc/{process_id}/status").read_text()
        limits = Path(f"/proc/{process_id}/limits").read_text()
        assert set(environment.split(b"\0")) <= {b""} | {
            f"LD_LIBRARY_PATH={os.environ.get('LD_LIBRARY_PATH')}".encode()
        }
        assert "NoNewPrivs:\t1" in status
        assert limits.split("Max core file size")[1].split()[:2] == ["0", "0"]
        assert int(limits.split("Max address space")[1].split()[1]) == QUICK.address_space_bytes
        assert int(limits.split("Max file size")[1].split()[1]) < QUICK.database_bytes + 32 * MIB


def open_files(process_id: int) -> set[str]:
    """What a process has open for longer than a moment: after an answer it looks after its other databases."""
    found = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        for link in Path(f"/proc/{process_id}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.add(os.readlink(link))
    return found


def test_a_database_that_is_closed_refuses_and_lets_go_of_its_file(sql: Sql, stocked: DatabaseUnderTest) -> None:
    sql.run(stocked.database.close())
    sql.run(stocked.database.close())

    assert stocked.error("SELECT 1") == "D1_ERROR: The database has been closed."
    for process_id in sql.service.process_ids:
        assert not [path for path in open_files(process_id) if str(stocked.directory) in path]
    again = Database(stocked.directory, sql.service)
    assert sql.run(again.query([Statement("SELECT a FROM t")]))[0].rows == [[1]]
    sql.run(again.close())
