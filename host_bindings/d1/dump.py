"""A database as SQL text, in the form of Cloudflare's exports: a statement for each row, no transactions.

Tables come first with their rows, then what would be in the way of inserting them: indexes, views, triggers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from host_bindings.d1.errors import RequestRefused
from host_bindings.d1.requests import DumpOptions

VIRTUAL_TABLES_REFUSED = "D1 Export error: cannot export databases with Virtual Tables (fts5)"

Query = Callable[[str], Iterator[tuple[Any, ...]]]

_TABLES = """SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql NOT NULL
  ORDER BY tbl_name = 'sqlite_sequence', rowid"""
_REST = """SELECT name, sql FROM sqlite_schema WHERE type IN ('index', 'trigger', 'view') AND sql NOT NULL
  ORDER BY type = 'trigger', type, rowid"""


def dump(query: Query, options: DumpOptions) -> Iterator[str]:
    """The statements, without line ends. `query` runs the host's SQL in a transaction. Raises `RequestRefused`."""
    tables = [table for table in query(_TABLES) if not options.tables or table[0] in options.tables]
    if any(sql[:20].upper() == "CREATE VIRTUAL TABLE" for _, sql in tables):
        raise RequestRefused(VIRTUAL_TABLES_REFUSED)
    yield "PRAGMA defer_foreign_keys=TRUE;"
    if not options.no_schema:
        # All of them before any row: a row's insertion needs the tables that its foreign keys name.
        yield from (_create(sql) for name, sql in tables if not name.startswith("sqlite_"))
    if not options.no_data:
        for name, _ in tables:
            yield from _rows(query, name)
    if not options.no_schema:
        for name, sql in query(_REST):
            if not options.tables or name in options.tables:
                yield f"{sql};"


def _create(sql: str) -> str:
    # ALTER TABLE … RENAME TO puts the name in quotes; such tables are marked so in Cloudflare's exports.
    quoted = sql.startswith(('CREATE TABLE "', "CREATE TABLE '"))
    return f"CREATE TABLE IF NOT EXISTS {sql[13:]};" if quoted else f"{sql};"


def _rows(query: Query, name: str) -> Iterator[str]:
    if name.startswith("sqlite_stat"):
        return  # ANALYZE makes it anew
    if name == "sqlite_sequence":
        yield "DELETE FROM sqlite_sequence;"
    columns = [row[1] for row in query(f"PRAGMA table_info({_identifier(name)})")]
    selected = ", ".join(map(_identifier, columns))
    for row in query(f"SELECT {selected} FROM {_identifier(name)}"):  # noqa: S608
        yield f"INSERT INTO {_identifier(name)} VALUES({','.join(map(literal, row))});"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(value: Any) -> str:
    """A value as SQL has it, on one line, exact."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f"{'-' if value < 0 else ''}9e999"
    if isinstance(value, str):
        return _text(value)
    # The smallest integer has no literal: -9223372036854775808 is read as a negated real.
    return str(value) if value != -(2**63) else "(-9223372036854775807 - 1)"


def _text(value: str) -> str:
    if "\0" in value:
        return f"CAST(X'{value.encode().hex()}' AS TEXT)"
    quoted = "'" + value.replace("'", "''") + "'"
    for character, name in (("\n", "\\n"), ("\r", "\\r")):
        if character in value:
            mark = name
            while mark in value:
                mark = f"{mark}_"
            quoted = f"replace({quoted.replace(character, mark)},'{mark}',char({ord(character)}))"
    return quoted
