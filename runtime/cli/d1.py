"""`cloister d1`: SQL, migrations and copies of D1 databases, through the management API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from guest_sdk.build import ConfigurationError, MigrationSettings, read_migration_settings
from runtime.cli.client import AdminClient, connect
from runtime.cli.errors import CommandError, ExitCode
from runtime.cli.options import server_options, server_settings


@click.group()
def d1() -> None:
    """Work with D1 databases, by name or id."""


@d1.command()
@click.argument("database")
@click.option("--command", "sql", help="The SQL to run.")
@click.option(
    "--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file with the SQL to run."
)
@server_options
def execute(database: str, sql: str | None, file: Path | None, **where: Any) -> None:
    """Run SQL as one transaction, and print each statement's rows as JSON."""
    if (sql is None) == (file is None):
        raise click.UsageError("Give either --command or --file.")
    text = sql if file is None else file.read_text(encoding="utf-8")
    results = _client(where).query_d1(database, text or "")
    click.echo(json.dumps([{"results": r["results"], "meta": r["meta"]} for r in results], indent=2))


@d1.group()
def migrations() -> None:
    """Bring a database's tables up to date with the files in a folder, NNNN_name.sql."""


def _project(function: Any) -> Any:
    return click.option(
        "--project",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=Path(),
        help="The folder of the worker whose configuration names the database.  [default: the present one]",
    )(function)


@migrations.command("list")
@click.argument("database")
@_project
@server_options
def list_migrations(database: str, project: Path, **where: Any) -> None:
    """List the migrations that have not been applied."""
    for file in _pending(_client(where), database, _settings(project, database)):
        click.echo(file.name)


@migrations.command()
@click.argument("database")
@_project
@server_options
def apply(database: str, project: Path, **where: Any) -> None:
    """Apply the migrations that have not been, in order, each as one transaction.

    The first that fails ends it; those before it stay.
    """
    client, settings = _client(where), _settings(project, database)
    pending = _pending(client, database, settings)
    for file in pending:
        # The line end closes a comment in the file's last line, and the semicolon a statement there.
        record = f"INSERT INTO {_name(settings.table)} (name) VALUES ({_text(file.name)})"  # noqa: S608
        try:
            client.query_d1(database, f"{file.read_text(encoding='utf-8')}\n;\n{record}")
        except CommandError as error:
            raise CommandError(f"{file} could not be applied.", error.details or error.headline) from error
        click.echo(f"Applied {file.name}")
    if not pending:
        click.echo("There is nothing to apply.", err=True)


@migrations.command()
@click.argument("database")
@click.argument("message")
@_project
def create(database: str, message: str, project: Path) -> None:
    """Make an empty file for the next migration."""
    settings = _settings(project, database)
    settings.directory.mkdir(parents=True, exist_ok=True)
    last = max((int(file.name[:4]) for file in settings.files() if file.name[:4].isdigit()), default=0)
    path = settings.directory / f"{last + 1:04}_{'_'.join(message.split())}.sql"
    path.write_text(f"-- Migration number: {last + 1:04}\n", encoding="utf-8")
    click.echo(path)


def _client(where: dict[str, Any]) -> AdminClient:
    return connect(server_settings(**where))


def _settings(project: Path, database: str) -> MigrationSettings:
    try:
        return read_migration_settings(project, database)
    except ConfigurationError as error:
        raise CommandError("The migrations cannot be found.", str(error), exit_code=ExitCode.USAGE) from error


def _pending(client: AdminClient, database: str, settings: MigrationSettings) -> list[Path]:
    """Makes the table that records them if it is not there yet."""
    table = _name(settings.table)
    create_table = f"""CREATE TABLE IF NOT EXISTS {table} (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE,
        applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL)"""
    rows = client.query_d1(database, f"{create_table}; SELECT name FROM {table} ORDER BY id")[-1]["results"]  # noqa: S608
    applied = {row["name"] for row in rows}
    return [file for file in settings.files() if file.name not in applied]


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
