"""One open database file: SQLite as a tenant's SQL gets to use it.

Only a child process opens these. Every statement of a tenant runs inside a transaction of the host's, under the
authorizer, the limits and a deadline.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from host_bindings.allowance import D1_STORAGE, SQL_TIME
from host_bindings.d1 import errors, failures
from host_bindings.d1.authorizer import MODULES, Authorizer
from host_bindings.d1.bookmark import Bookmark, database_id
from host_bindings.d1.checkpoint import Checkpointer
from host_bindings.d1.errors import RequestRefused
from host_bindings.d1.execution import Budget, Execution, look_at, run_again
from host_bindings.d1.limits import SqlLimits
from host_bindings.d1.outcome import Outcome
from host_bindings.d1.program import Programs
from host_bindings.d1.requests import Moment, Travel
from host_bindings.d1.travel import Traveller
from host_bindings.d1.wire import Allowed
from host_bindings.storage.wal import use_wal

FILE_NAME = "database.sqlite"

_BUSY_MS = 5_000
_PROGRESS_OPERATIONS = 1_000
_WAL_BYTES_KEPT = 16 * 1024 * 1024
_STATEMENTS_CACHED = 200
_ROOM_KNOWN_S = 1.0
_DISK_BYTES_LEFT = 16 * 1024 * 1024
"""With more than this on the disk, a database that is full has met its owner's limit."""

_SWITCHES_AT_REST = (
    "case_sensitive_like = 0",
    "defer_foreign_keys = 0",
    "ignore_check_constraints = 0",
    "legacy_alter_table = 0",
    "recursive_triggers = 0",
    "reverse_unordered_selects = 0",
)
"""Settings that a tenant may change, for the rest of a request."""


class Connection:
    """Raises `RequestRefused` for whatever a tenant's statement does wrong, and `apsw.BusyError` when another process
    writes to the file: then the transaction is to be run again."""

    def __init__(self, directory: Path, limits: SqlLimits) -> None:
        self._limits = limits
        self._sql_bytes = limits.sql_bytes
        self._directory = directory
        self._allowed = Allowed(limits.request_ms, limits.result_rows, limits.database_bytes)
        self._room_known_until = 0.0
        self._id = database_id(directory)
        self.authorizer = Authorizer()
        self._deadline = math.inf
        self._overdue = False
        self._statement = ""
        self.scanned_rows = 0
        """Rows that full scans of the present statement have stepped over."""
        self._switched = False
        self._size: int | None = None
        self._schema_seen = False
        self.programs = Programs(self._explain)
        self.looks_at_programs = True
        self.spoilt = False
        """To be closed after this request."""
        # A tenant's text must never meet the host's in the statement cache, where no authorizer is asked.
        nonce = secrets.token_hex(8)

        def own(sql: str) -> str:
            return f"{sql} /* {nonce} */"

        self._begin = own("BEGIN")
        self._begin_immediate = own("BEGIN IMMEDIATE")
        self._commit = own("COMMIT")
        self._rollback = own("ROLLBACK")
        self._savepoint = own("SAVEPOINT request")
        self._release = own("RELEASE request")
        self._rollback_to = own("ROLLBACK TO request")
        self._page_count = own("PRAGMA page_count")
        self._schema_version = own("PRAGMA schema_version")
        self._schema_names = own("SELECT name FROM sqlite_schema")
        try:
            self.sqlite = _open(directory)
            self._path = self.sqlite.db_filename("main")
            self._identity = _identity(self._path)
            self._configure()
            self.checkpointer = Checkpointer(self, self.sqlite.db_filename("main"), limits)
            self.sqlite.set_wal_hook(self._committed)
        except Exception as error:
            with contextlib.suppress(AttributeError, apsw.Error):
                self.sqlite.close(True)
            raise failures.refusal(error) from error

    @property
    def is_current(self) -> bool:
        """The file is still there: another process has not deleted the database, or put another in its place."""
        return _identity(self._path) == self._identity

    def close(self) -> None:
        with contextlib.suppress(apsw.Error):
            self.sqlite.close(True)
        self.checkpointer.close()

    def _committed(self, _connection: apsw.Connection, _database: str, log_pages: int) -> int:
        self.checkpointer.committed(log_pages)
        return apsw.SQLITE_OK

    def _configure(self) -> None:
        connection, limits = self.sqlite, self._limits
        connection.set_busy_timeout(_BUSY_MS)
        for option, value in _DATABASE_OPTIONS:
            connection.config(option, value)
        for kind, value in _sqlite_limits(limits):
            connection.limit(kind, value)
        use_wal(connection, _BUSY_MS / 1000)
        connection.pragma("synchronous", "FULL")
        self.page_bytes = int(connection.pragma("page_size"))
        connection.pragma("max_page_count", max(1, limits.database_bytes // self.page_bytes))
        connection.pragma("temp_store", "MEMORY")
        connection.pragma("cache_size", -(limits.cache_bytes // 1024))
        connection.pragma("mmap_size", 0)
        connection.pragma("journal_size_limit", _WAL_BYTES_KEPT)
        connection.pragma("cell_size_check", 1)
        connection.wal_autocheckpoint(0)  # see `checkpoint`
        connection.pragma("foreign_keys", 1)
        connection.pragma("recursive_triggers", 0)
        connection.drop_modules([*MODULES, "json_each", "json_tree", "jsonb_each", "jsonb_tree"])
        connection.set_progress_handler(self._is_overdue, _PROGRESS_OPERATIONS)
        connection.authorizer = self.authorizer

    # The host's own statements

    def bookmark(self) -> str:
        """Names the present state, to the minute."""
        return str(Bookmark(time.time_ns() // 1_000_000, 0, self._id))

    def page_count(self) -> int:
        return int(self._own(self._page_count))

    def schema_version(self) -> int:
        version = int(self._own(self._schema_version))
        self.programs.at(version)
        self._schema_seen = True
        return version

    def see_schema(self) -> None:
        """What is known of `programs` holds for this transaction then."""
        if not self._schema_seen:
            self.schema_version()

    def size(self, *, measure: bool) -> int:
        """Of the database, in bytes. Without `measure` as it was measured last in this transaction, if it was."""
        if measure or self._size is None:
            self._size = int(self._own(self._page_count)) * self.page_bytes
        return self._size

    def traveller(self) -> Traveller:
        return Traveller(self.checkpointer, self._id, self.page_bytes, self._limits)

    def restore(self, moment: Moment) -> Travel:
        """Brings the database back to an earlier state."""
        self.spoilt = True
        return self.traveller().restore(moment, self.sqlite)

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """Of a statement of the host's."""
        self.authorizer.trusts = True
        try:
            yield from self.sqlite.execute(sql, can_cache=False)
        finally:
            self.authorizer.trusts = False

    def begin(self, *, immediate: bool = False) -> None:
        self._size, self._schema_seen = None, False
        self._own(self._begin_immediate if immediate else self._begin)

    def commit(self) -> None:
        """Returns when what was written is on disk. Raises `RequestRefused` if it could not be."""
        try:
            self._own(self._commit)
        except apsw.BusyError:
            raise
        except Exception as error:
            self.spoilt = self.spoilt or failures.spoils_connection(error)
            raise self._refusal(error) from error

    def rollback(self) -> None:
        """Of the whole transaction, if SQLite has not done so already."""
        if self.sqlite.in_transaction:
            self._own(self._rollback)

    def savepoint(self) -> None:
        self._own(self._savepoint)

    def release(self) -> None:
        self._own(self._release)

    def rollback_to_savepoint(self) -> None:
        self._size, self._schema_seen = None, False
        self._own(self._rollback_to)
        self._own(self._release)

    @property
    def in_transaction(self) -> bool:
        return self.sqlite.in_transaction

    @property
    def writing(self) -> bool:
        """The transaction has something to commit."""
        return self.sqlite.txn_state("main") == apsw.SQLITE_TXN_WRITE

    @property
    def last_row_id(self) -> int:
        return self.sqlite.last_insert_rowid()

    @last_row_id.setter
    def last_row_id(self, value: int) -> None:
        if value != self.sqlite.last_insert_rowid():
            self.sqlite.set_last_insert_rowid(value)

    def _own(self, sql: str, *, cached: bool = True) -> Any:
        """The first value of the first row, None without one."""
        self.authorizer.trusts = True
        try:
            return self.sqlite.execute(sql, can_cache=cached).get
        finally:
            self.authorizer.trusts = False

    def names(self) -> list[str]:
        """Of all tables, indexes, views and triggers."""
        self.authorizer.trusts = True
        try:
            return [name for (name,) in self.sqlite.execute(self._schema_names)]
        finally:
            self.authorizer.trusts = False

    # What the owner may take

    def allow(self, allowed: Allowed) -> None:
        """Holds for the requests that follow. Raises `RequestRefused` if the owner's databases cannot be measured."""
        now = time.monotonic()
        if allowed == self._allowed and now < self._room_known_until:
            return
        self._allowed = allowed
        self._room_known_until = now + _ROOM_KNOWN_S
        try:
            others = others_bytes(self._directory)
        except OSError as error:
            raise failures.refusal(error) from error
        room = min(self._limits.database_bytes, allowed.storage_bytes - others)
        # SQLite keeps to what is there already if this is less.
        self._own(f"PRAGMA max_page_count = {max(1, room // self.page_bytes)}", cached=False)

    def budget(self) -> Budget:
        return Budget(self._limits, min(self._limits.result_rows, self._allowed.result_rows))

    def _refusal(self, error: Exception) -> RequestRefused:
        if isinstance(error, apsw.FullError):
            disk = os.statvfs(self._directory)
            if disk.f_bavail * disk.f_frsize > _DISK_BYTES_LEFT:
                return RequestRefused(errors.STORAGE_LIMIT, code=D1_STORAGE)
        return failures.refusal(error)

    # A tenant's request

    def begin_request(self, *, limit_ms: int | None = None) -> None:
        """Starts the clock. `limit_ms`: instead of the limit of a request."""
        self._overdue = False
        self._switched = False
        allowed_ms = limit_ms or min(self._limits.request_ms, self._allowed.request_ms)
        self._deadline = time.monotonic() + allowed_ms / 1000

    def end_request(self, *, succeeded: bool) -> None:
        """Undoes settings, so that they do not reach the next request. Raises `RequestRefused` if the request leaves
        foreign keys broken: a commit that several requests share must not fail for one of them."""
        self._deadline = math.inf
        # Before the settings: turning defer_foreign_keys off forgets the violations.
        broken = self.sqlite.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0]
        if self._switched or self.authorizer.switches:
            self.authorizer.reset()
            for setting in _SWITCHES_AT_REST:
                self._own(f"PRAGMA {setting}", cached=False)
        if succeeded and broken:
            raise RequestRefused(
                "FOREIGN KEY constraint failed: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_FOREIGNKEY)"
            )

    @property
    def interrupted(self) -> bool:
        """The request has been stopped at its deadline."""
        return self._overdue

    @contextlib.contextmanager
    def long_statements(self) -> Iterator[None]:
        """Statements may be as long as those of an import, and are not looked at: each is another one."""
        self.sqlite.limit(apsw.SQLITE_LIMIT_SQL_LENGTH, 4 * self._limits.import_statement_characters)
        self._sql_bytes = 4 * self._limits.import_statement_characters
        self.looks_at_programs = False
        try:
            yield
        finally:
            self.looks_at_programs = True
            self.sqlite.limit(apsw.SQLITE_LIMIT_SQL_LENGTH, self._limits.sql_bytes)
            self._sql_bytes = self._limits.sql_bytes

    def execute(self, sql: str, parameters: list[Any], budget: Budget) -> Outcome:
        """Runs the statements in `sql`; the rows of the last one.

        `parameters` go to the last one. Changes are counted for all of them, rows read and written for the last one, as
        `program` says.
        """
        try:
            known = self.programs.get(sql)
            if known is not None and not self._schema_seen:
                self.see_schema()
                known = self.programs.get(sql)
            if known is not None and known.plain:
                return run_again(self, sql, parameters, budget, known)
            return Execution(self, sql, parameters, budget).run(self._check(sql))
        except apsw.BusyError:
            raise
        except Exception as error:
            self.spoilt = self.spoilt or failures.spoils_connection(error)
            if self._overdue and isinstance(error, apsw.InterruptError):
                raise RequestRefused(errors.CPU_LIMIT, code=SQL_TIME) from None
            raise self._refusal(error) from error

    def _explain(self, sql: str, parameters: list[Any]) -> Iterator[tuple[Any, ...]]:
        """The program of a tenant's statement. It is not trusted more than the statement itself."""
        return self.sqlite.execute(f"EXPLAIN {sql}", parameters, can_cache=False)

    def _check(self, sql: str) -> bool:
        """Whether the text may be kept prepared. Raises `RequestRefused` if it is too long or has no statement."""
        if len(sql) > self._sql_bytes or (text := look_at(sql)).size > self._sql_bytes:
            raise RequestRefused("statement too long: SQLITE_TOOBIG")
        if text.blank:
            raise RequestRefused(errors.NO_STATEMENT)
        return text.cacheable

    def _is_overdue(self) -> bool:
        self._overdue = self._overdue or time.monotonic() > self._deadline
        return self._overdue

    def begin_statement(self, sql: str) -> None:
        """A tenant's statement is about to run."""
        self._statement = sql
        self.scanned_rows = 0

    def count_scan(self, event: dict[str, Any]) -> None:
        """SQLite's callback when a statement has ended: the tenant's, or one within a virtual table."""
        steps = event["stmt_status"]["SQLITE_STMTSTATUS_FULLSCAN_STEP"]
        if steps and self._statement.startswith(event["sql"]):
            self.scanned_rows += steps + 1

    def note_switches(self) -> None:
        """A statement has been run that may have changed a setting."""
        self._switched = self._switched or self.authorizer.switches


_DATABASE_OPTIONS = (
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
    (apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1),
    (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    (apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA, 0),
    # Text in double quotes that names nothing is a string, as on Cloudflare.
    (apsw.SQLITE_DBCONFIG_DQS_DML, 1),
    (apsw.SQLITE_DBCONFIG_DQS_DDL, 1),
    (apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, 0),
    (apsw.SQLITE_DBCONFIG_LEGACY_ALTER_TABLE, 0),
)


def _sqlite_limits(limits: SqlLimits) -> tuple[tuple[int, int], ...]:
    return (
        (apsw.SQLITE_LIMIT_LENGTH, limits.value_bytes),
        (apsw.SQLITE_LIMIT_SQL_LENGTH, limits.sql_bytes),
        (apsw.SQLITE_LIMIT_COLUMN, limits.columns),
        (apsw.SQLITE_LIMIT_EXPR_DEPTH, limits.expression_depth),
        (apsw.SQLITE_LIMIT_COMPOUND_SELECT, limits.compound_selects),
        (apsw.SQLITE_LIMIT_VDBE_OP, limits.vdbe_operations),
        (apsw.SQLITE_LIMIT_FUNCTION_ARG, limits.function_arguments),
        (apsw.SQLITE_LIMIT_ATTACHED, 0),
        (apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, limits.like_pattern_bytes),
        (apsw.SQLITE_LIMIT_VARIABLE_NUMBER, limits.parameters),
        (apsw.SQLITE_LIMIT_TRIGGER_DEPTH, limits.trigger_depth),
        (apsw.SQLITE_LIMIT_WORKER_THREADS, 0),
    )


def _identity(path: str) -> tuple[int, int] | None:
    """Tells a file from another one that has taken its place; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _open(directory: Path) -> apsw.Connection:
    """Raises `OSError` or `apsw.Error`. The new file's directories are on disk before it is."""
    _make_directory(directory)
    path = os.path.join(os.path.realpath(directory), FILE_NAME)
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOFOLLOW
    return apsw.Connection(path, flags=flags, statementcachesize=_STATEMENTS_CACHED)


def others_bytes(directory: Path) -> int:
    """What the other databases of the owner of this one take on disk."""
    found = 0
    try:
        others = list(os.scandir(directory.parent))
    except PermissionError:
        # A process that may not look there is confined to this one database.
        return 0
    for other in others:
        if other.name != directory.name:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found += os.stat(os.path.join(other.path, FILE_NAME)).st_size
    return found


def _make_directory(directory: Path) -> None:
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
