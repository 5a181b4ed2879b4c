"""One run of a tenant's SQL text, of one statement or several."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw

from host_bindings.allowance import SQL_ROWS
from host_bindings.d1 import errors, script, values
from host_bindings.d1.authorizer import reserved
from host_bindings.d1.errors import RequestRefused
from host_bindings.d1.limits import SqlLimits
from host_bindings.d1.outcome import Outcome
from host_bindings.d1.program import OF_SCHEMA, UNKNOWN, Program

if TYPE_CHECKING:
    from host_bindings.d1.connection import Connection

_TEXT_KEPT_CHARACTERS = 4096
_TEXTS_KEPT = 256


class Text(NamedTuple):
    """What has to be known of an SQL text before it is run; `size` in bytes."""

    size: int
    blank: bool
    cacheable: bool
    """Pragmas act when they are prepared: a cached one would do nothing."""


def look_at(sql: str) -> Text:
    """Applications run the same texts again and again: short ones are looked at once."""
    return _look_at_again(sql) if len(sql) <= _TEXT_KEPT_CHARACTERS else _look_at(sql)


def _look_at(sql: str) -> Text:
    return Text(len(sql.encode()), script.is_blank(sql), "pragma" not in sql.lower())


_look_at_again = lru_cache(_TEXTS_KEPT)(_look_at)


def _names(cursor: apsw.Cursor) -> list[str]:
    """Of the columns, at the first row: only then a statement knows them that was prepared with another schema.

    `get_description` would give again what it gave before.
    """
    return [column[0] for column in cursor.description]


def too_large(limits: SqlLimits) -> RequestRefused:
    return RequestRefused(f"The result is larger than {limits.result_bytes} bytes. Use LIMIT.")


class Budget:
    """What is left of a request's allowance of rows and bytes."""

    def __init__(self, limits: SqlLimits, rows_max: int) -> None:
        self.rows = self._rows_max = rows_max
        self.bytes = limits.result_bytes
        self._limits = limits

    def take(self, row: bytes) -> None:
        self.rows -= 1
        self.bytes -= len(row) + 1
        if self.rows < 0:
            raise RequestRefused(f"The result has more than {self._rows_max} rows. Use LIMIT.", code=SQL_ROWS)
        if self.bytes < 0:
            raise too_large(self._limits)


class Execution:
    """Works on `owner`, which holds the transaction, the clock and the limits."""

    __slots__ = (
        *("_budget", "_changes_before_last", "_columns", "_last", "_owner", "_parameters", "_position"),
        *("_rows", "_schema_version", "_sql"),
    )

    def __init__(self, owner: Connection, sql: str, parameters: list[Any], budget: Budget) -> None:
        self._owner = owner
        self._sql = sql
        self._parameters = parameters
        self._budget = budget
        self._position = self._changes_before_last = 0
        self._last = ""
        self._columns: list[str] = []
        self._rows: list[bytes] = []
        self._schema_version: int | None = None

    def run(self, cacheable: bool) -> Outcome:
        owner, sqlite = self._owner, self._owner.sqlite
        owner.authorizer.reset()
        changes, row_id = sqlite.total_changes(), sqlite.last_insert_rowid()
        started = time.perf_counter()
        sqlite.trace_v2(apsw.SQLITE_TRACE_PROFILE, owner.count_scan)
        try:
            self._step(cacheable)
        finally:
            sqlite.trace_v2(0, None)
            owner.note_switches()
        if owner.authorizer.alters:
            self._check_names()
        duration_ms = (time.perf_counter() - started) * 1000
        return self._outcome(duration_ms, changes, row_id, cacheable=cacheable)

    def _step(self, cacheable: bool) -> None:
        cursor = self._owner.sqlite.cursor()
        cursor.exec_trace = self._before_statement
        rows, take, encode = self._rows, self._budget.take, values.row_json
        try:
            for row in cursor.execute(self._sql, self._parameters, can_cache=cacheable):
                if not rows:
                    self._columns = _names(cursor)
                encoded = encode(row)
                take(encoded)
                rows.append(encoded)
        finally:
            cursor.close(True)

    def _before_statement(self, cursor: apsw.Cursor, statement: str, _: object) -> bool:
        """SQLite has prepared `statement`, the next part of the text, and is about to run it."""
        self._position += len(statement)
        if not cursor.has_vdbe:
            return True
        # What is metered is the last statement's.
        self._last, self._changes_before_last = statement, self._owner.sqlite.total_changes()
        self._owner.begin_statement(statement)
        if self._position < len(self._sql) and cursor.bindings_count and not script.is_blank(self._sql, self._position):
            raise RequestRefused(errors.ONLY_LAST_HAS_PARAMETERS)
        self._columns = [column[0] for column in cursor.get_description()]
        self._rows.clear()
        if self._owner.authorizer.changes_schema and self._schema_version is None:
            self._schema_version = self._owner.schema_version()
        return True

    def _check_names(self) -> None:
        """The authorizer is not told the new name in ALTER TABLE … RENAME TO."""
        if any(reserved(name) for name in self._owner.names()):
            raise RequestRefused("not authorized: SQLITE_AUTH")

    def _outcome(self, duration_ms: float, changes_before: int, row_id_before: int, *, cacheable: bool) -> Outcome:
        owner, sqlite, schema_before = self._owner, self._owner.sqlite, self._schema_version
        row_id, scanned, changes = sqlite.last_insert_rowid(), owner.scanned_rows, sqlite.total_changes()
        changes_of_last, changes = changes - self._changes_before_last, changes - changes_before
        schema_changed = schema_before is not None and owner.schema_version() != schema_before
        may_have_grown = bool(changes or schema_changed or owner.authorizer.rewrites)
        changed = may_have_grown or row_id != row_id_before
        size = owner.size(measure=may_have_grown)
        program = self._program(cacheable=cacheable)
        read, written = program.read(self._rows, changes_of_last, scanned), program.written(changes_of_last)
        return Outcome(self._columns, self._rows, duration_ms, changes, row_id, changed, size, read, written)

    def _program(self, *, cacheable: bool) -> Program:
        """Of the last statement."""
        if self._schema_version is not None:
            return OF_SCHEMA
        if not cacheable or not self._owner.looks_at_programs:
            return UNKNOWN
        self._owner.see_schema()
        return self._owner.programs.look(self._last, self._parameters, self._columns)


def run_again(owner: Connection, sql: str, parameters: list[Any], budget: Budget, program: Program) -> Outcome:
    """Runs a plain statement whose program is known: there is nothing to be watched."""
    sqlite = owner.sqlite
    changes, row_id_before = sqlite.total_changes(), sqlite.last_insert_rowid()
    columns, rows = program.columns, list[bytes]()
    cursor = sqlite.cursor()
    started = time.perf_counter()
    try:
        for row in cursor.execute(sql, parameters):
            if not rows:
                columns = _names(cursor)
            encoded = values.row_json(row)
            budget.take(encoded)
            rows.append(encoded)
    finally:
        cursor.close(True)
    duration_ms = (time.perf_counter() - started) * 1000
    changes, row_id = sqlite.total_changes() - changes, sqlite.last_insert_rowid()
    changed = changes > 0 or row_id != row_id_before
    size = owner.size(measure=changes > 0)
    read, written = program.read(rows, changes, 0), program.written(changes)
    return Outcome(columns, rows, duration_ms, changes, row_id, changed, size, read, written)
