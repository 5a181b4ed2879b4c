"""`cloister d1`: SQL, migrations and copies of D1 databases, through the management API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from guest_sdk.build import ConfigurationError, MigrationSettings, read_migration_settings
from runtime.cli.client import connect
from runtime.cli.d1_client import D1Client
from runtime.cli.errors import CommandError, ExitCode
from runtime.cli.options import json_option, server_options, server_settings
from runtime.cli.output import print_json, say


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
@json_option
def execute(database: str, sql: str | None, file: Path | None, as_json: bool, **where: Any) -> None:
    """Run SQL as one transaction, and print each statement's rows as JSON, with or without --json."""
    if (sql is None) == (file is None):
        raise click.UsageError("Give either --command or --file.")
    text = sql if file is None else file.read_text(encoding="utf-8")
    results = _client(database, where).query(text or "")
    print_json([{"results": r["results"], "meta": r["meta"]} for r in results])


@d1.command()
@click.argument("database")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file to write.")
@click.option("--table", "tables", multiple=True, help="Only this table. Can be repeated.")
@click.option("--no-schema", is_flag=True, help="Only the rows.")
@click.option("--no-data", is_flag=True, help="Only the schema.")
@server_options
@json_option
def export(
    database: str,
    output: Path,
    tables: tuple[str, ...],
    no_schema: bool,
    no_data: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Write a database as SQL text."""
    options = {"tables": list(tables), "no_schema": no_schema, "no_data": no_data}
    _client(database, where).export(output, options)
    say(as_json, {"file": str(output), "bytes": output.stat().st_size}, f"Wrote {output}.")


@d1.command("import")
@click.argument("database")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@server_options
@json_option
def import_(database: str, file: Path, as_json: bool, **where: Any) -> None:
    """Run the SQL text in a file as one transaction, however long it is."""
    result = _client(database, where).import_file(file)
    if as_json:
        print_json(result)
    else:
        click.echo(f"Ran {result['num_queries']} queries.")


@d1.group("time-travel")
def time_travel() -> None:
    """Name earlier states of a database, and bring it back to one."""


@time_travel.command()
@click.argument("database")
@click.option("--timestamp", help="A time, as 2026-01-31T12:00:00Z.  [default: now]")
@server_options
@json_option
def info(database: str, timestamp: str | None, as_json: bool, **where: Any) -> None:
    """Print the bookmark of a state."""
    bookmark = _client(database, where).bookmark(timestamp)
    if as_json:
        print_json({"bookmark": bookmark})
    else:
        click.echo(bookmark)


@time_travel.command()
@click.argument("database")
@click.option("--timestamp", help="A time in the last 7 days, as 2026-01-31T12:00:00Z.")
@click.option("--bookmark", help="A bookmark.")
@server_options
@json_option
def restore(database: str, timestamp: str | None, bookmark: str | None, as_json: bool, **where: Any) -> None:
    """Bring a database back to an earlier state. Prints the bookmark with which this can be undone."""
    if (timestamp is None) == (bookmark is None):
        raise click.UsageError("Give either --timestamp or --bookmark.")
    moment = {"bookmark": bookmark} if bookmark is not None else {"timestamp": timestamp or ""}
    restored = _client(database, where).restore(moment)
    if as_json:
        print_json(restored)
    else:
        click.echo(restored["previous_bookmark"])


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
@json_option
def list_migrations(database: str, project: Path, as_json: bool, **where: Any) -> None:
    """List the migrations that have not been applied."""
    names = [file.name for file in _pending(_client(database, where), _settings(project, database))]
    if as_json:
        print_json(names)
    else:
        click.echo("".join(f"{name}\n" for name in names), nl=False)


@migrations.command()
@click.argument("database")
@_project
@server_options
@json_option
def apply(database: str, project: Path, as_json: bool, **where: Any) -> None:
    """Apply the migrations that have not been, in order, each as one transaction.

    The first that fails ends it; those before it stay.
    """
    client, settings = _client(database, where), _settings(project, database)
    pending = _pending(client, settings)
    for file in pending:
        # The line end closes a comment in the file's last line, and the semicolon a statement there.
        record = f"INSERT INTO {_name(settings.table)} (name) VALUES ({_text(file.name)})"  # noqa: S608
        try:
            client.query(f"{file.read_text(encoding='utf-8')}\n;\n{record}")
        except CommandError as error:
            raise CommandError(f"{file} could not be applied.", error.details or error.headline) from error
        if not as_json:
            click.echo(f"Applied {file.name}")
    if as_json:
        print_json({"applied": [file.name for file in pending]})
    elif not pending:
        click.echo("There is nothing to apply.", err=True)


@migrations.command()
@click.argument("database")
@click.argument("message")
@_project
@json_option
def create(database: str, message: str, project: Path, as_json: bool) -> None:
    """Make an empty file for the next migration."""
    settings = _settings(project, database)
    settings.directory.mkdir(parents=True, exist_ok=True)
    last = max((int(file.name[:4]) for file in settings.files() if file.name[:4].isdigit()), default=0)
    path = settings.directory / f"{last + 1:04}_{'_'.join(message.split())}.sql"
    path.write_text(f"-- Migration number: {last + 1:04}\n", encoding="utf-8")
    if as_json:
        print_json({"file": str(path)})
    else:
        click.echo(path)


def _client(database: str, where: dict[str, Any]) -> D1Client:
    return D1Client(connect(server_settings(**where)), database)


def _settings(project: Path, database: str) -> MigrationSettings:
    try:
        return read_migration_settings(project, database)
    except ConfigurationError as error:
        raise CommandError("The migrations cannot be found.", str(error), exit_code=ExitCode.USAGE) from error


def _pending(client: D1Client, settings: MigrationSettings) -> list[Path]:
    """Makes the table that records them if it is not there yet."""
    table = _name(settings.table)
    create_table = f"""CREATE TABLE IF NOT EXISTS {table} (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE,
        applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL)"""
    rows = client.query(f"{create_table}; SELECT name FROM {table} ORDER BY id")[-1]["results"]  # noqa: S608
    applied = {row["name"] for row in rows}
    return [file for file in settings.files() if file.name not in applied]


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
