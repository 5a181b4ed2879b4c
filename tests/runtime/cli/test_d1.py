"""`cloister d1`: SQL and migrations against a real management API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.cli.client import AdminClient
from tests.runtime.cli.conftest import RunCli
from tests.runtime.control.service import TOKEN, Control

CONFIGURATION = """{
  "name": "shop", "main": "entry.py",
  "d1_databases": [
    { "binding": "DB", "database_name": "shop", "database_id": "shop" },
    { "binding": "OTHER", "database_name": "other", "migrations_dir": "db/other", "migrations_table": "done" },
  ],
}"""


@pytest.fixture
def project(run_cli: RunCli, server: Control) -> Path:
    """The working directory: a worker with two databases, which exist."""
    client = AdminClient(server.port, TOKEN)
    for name in ("shop", "other"):
        body = json.dumps({"name": name}).encode()
        client.call("POST", "", under="d1/database", body=body, content_type="application/json")
    Path("wrangler.jsonc").write_text(CONFIGURATION)
    return Path()


def rows(run_cli: RunCli, database: str, sql: str) -> list[dict[str, object]]:
    outcome = run_cli("d1", "execute", database, "--command", sql)
    assert outcome.exit_code == 0, outcome.stderr
    found: list[dict[str, object]] = json.loads(outcome.stdout)[-1]["results"]
    return found


def test_sql_is_run_as_one_transaction(project: Path, run_cli: RunCli) -> None:
    Path("seed.sql").write_text("CREATE TABLE t (a);\nINSERT INTO t VALUES ('x');")

    seeded = run_cli("d1", "execute", "shop", "--file", "seed.sql")
    failed = run_cli("d1", "execute", "shop", "--command", "INSERT INTO t VALUES ('y'); SELEKT 1")

    assert [result["meta"]["changes"] for result in json.loads(seeded.stdout)] == [0, 1]
    assert failed.exit_code == 1
    assert 'near "SELEKT": syntax error' in failed.stderr
    assert rows(run_cli, "shop", "SELECT * FROM t") == [{"a": "x"}]


def test_migrations_are_applied_once_and_in_order(project: Path, run_cli: RunCli) -> None:
    folder = Path("migrations")
    folder.mkdir()
    (folder / "0002_rows.sql").write_text("INSERT INTO t VALUES (1); -- and a comment")
    (folder / "0001_table.sql").write_text("CREATE TABLE t (a)")

    listed = run_cli("d1", "migrations", "list", "shop")
    as_json = json.loads(run_cli("d1", "migrations", "list", "shop", "--json").stdout)
    applied = run_cli("d1", "migrations", "apply", "shop")
    again = run_cli("d1", "migrations", "apply", "shop")

    assert json.loads(run_cli("d1", "migrations", "apply", "shop", "--json").stdout) == {"applied": []}
    assert as_json == listed.stdout.split()
    assert listed.stdout.split() == ["0001_table.sql", "0002_rows.sql"]
    assert applied.stdout == "Applied 0001_table.sql\nApplied 0002_rows.sql\n"
    assert (again.exit_code, again.stdout) == (0, "")
    assert rows(run_cli, "shop", "SELECT count(*) AS n FROM t") == [{"n": 1}]
    recorded = rows(run_cli, "shop", "SELECT id, name, applied_at IS NOT NULL AS at FROM d1_migrations")
    assert recorded == [{"id": 1, "name": "0001_table.sql", "at": 1}, {"id": 2, "name": "0002_rows.sql", "at": 1}]


def test_a_failing_migration_changes_nothing_and_ends_it(project: Path, run_cli: RunCli) -> None:
    folder = Path("migrations")
    folder.mkdir()
    (folder / "0001_good.sql").write_text("CREATE TABLE good (a);")
    (folder / "0002_bad.sql").write_text("CREATE TABLE bad (a);\nINSERT INTO nope VALUES (1);")
    (folder / "0003_later.sql").write_text("CREATE TABLE later (a);")

    outcome = run_cli("d1", "migrations", "apply", "shop")

    assert outcome.exit_code == 1
    assert "0002_bad.sql could not be applied" in outcome.stderr and "no such table: nope" in outcome.stderr
    tables = "SELECT name FROM sqlite_master WHERE name IN ('good', 'bad', 'later')"
    assert rows(run_cli, "shop", tables) == [{"name": "good"}]
    assert run_cli("d1", "migrations", "list", "shop").stdout.split() == ["0002_bad.sql", "0003_later.sql"]


def test_the_configuration_names_folder_and_table(project: Path, run_cli: RunCli) -> None:
    created = run_cli("d1", "migrations", "create", "OTHER", "first table")
    Path(created.stdout.strip()).write_text("CREATE TABLE t (a)")

    applied = run_cli("d1", "migrations", "apply", "other")

    assert created.stdout == "db/other/0001_first_table.sql\n"
    assert applied.stdout == "Applied 0001_first_table.sql\n"
    assert rows(run_cli, "other", "SELECT name FROM done") == [{"name": "0001_first_table.sql"}]


def test_a_database_that_the_configuration_does_not_have_is_a_mistake(project: Path, run_cli: RunCli) -> None:
    outcome = run_cli("d1", "migrations", "apply", "missing")

    assert outcome.exit_code == 2
    assert "d1_databases has no database missing" in outcome.stderr


def test_a_database_is_exported_and_imported(project: Path, run_cli: RunCli) -> None:
    rows(run_cli, "shop", "CREATE TABLE t (a); INSERT INTO t VALUES ('x''y'), (x'00ff'); SELECT 1")

    exported = run_cli("d1", "export", "shop", "--output", "shop.sql")
    imported = run_cli("d1", "import", "other", "shop.sql")
    as_json = json.loads(run_cli("d1", "export", "shop", "--output", "again.sql", "--json").stdout)

    assert (exported.exit_code, exported.stdout, exported.stderr) == (0, "", "Wrote shop.sql.\n")
    assert as_json == {"file": "again.sql", "bytes": Path("shop.sql").stat().st_size}
    assert imported.stdout == "Ran 4 queries.\n"
    assert rows(run_cli, "other", "SELECT a FROM t") == [{"a": "x'y"}, {"a": [0, 255]}]


def test_an_import_that_fails_says_why(project: Path, run_cli: RunCli) -> None:
    Path("bad.sql").write_text("CREATE TABLE t (a);\nINSERT INTO nope VALUES (1);")

    outcome = run_cli("d1", "import", "shop", "bad.sql")

    assert outcome.exit_code == 1
    assert "no such table: nope" in outcome.stderr
    assert rows(run_cli, "shop", "SELECT count(*) AS n FROM sqlite_master WHERE name = 't'") == [{"n": 0}]


def test_a_database_travels_in_time_and_back(project: Path, run_cli: RunCli) -> None:
    rows(run_cli, "shop", "CREATE TABLE t (a); SELECT 1")
    early = run_cli("d1", "time-travel", "info", "shop").stdout.strip()
    rows(run_cli, "shop", "DROP TABLE t; SELECT 1")

    restored = run_cli("d1", "time-travel", "restore", "shop", "--bookmark", early)
    there = rows(run_cli, "shop", "SELECT count(*) AS n FROM sqlite_master WHERE name = 't'")
    back = run_cli("d1", "time-travel", "restore", "shop", "--bookmark", restored.stdout.strip(), "--json")

    assert set(json.loads(back.stdout)) >= {"bookmark", "previous_bookmark"}
    assert there == [{"n": 1}]
    assert rows(run_cli, "shop", "SELECT count(*) AS n FROM sqlite_master WHERE name = 't'") == [{"n": 0}]


def test_a_restore_needs_one_moment(project: Path, run_cli: RunCli) -> None:
    outcome = run_cli("d1", "time-travel", "restore", "shop")

    assert outcome.exit_code == 2
    assert "either --timestamp or --bookmark" in outcome.stderr
