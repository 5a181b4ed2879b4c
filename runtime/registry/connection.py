"""The registry's SQLite file: opening it, transactions, and the log of what changed. Everything here blocks."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw

from host_bindings.storage.wal import use_wal
from runtime.registry.errors import RegistryError
from runtime.registry.migrations import migrate
from runtime.registry.seal import Seal

_BUSY_MS = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Value = str | int | float | bytes | None


class RegistryConnection:
    """An open connection, of one thread's.

    Raises `RegistryError` if the file is not a registry, cannot be opened, or was sealed with another key.
    """

    def __init__(self, path: Path, seal: Seal) -> None:
        self._seal = seal
        try:
            # SQLite gives its -wal and -shm files the mode of the file itself. One that is there must not be opened
            # and closed: that would drop the locks of other connections that this process may have to it (POSIX).
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.chmod(path, 0o600)
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        except (OSError, apsw.Error) as error:
            raise RegistryError(f"The registry {path} cannot be opened: {error}") from error
        try:
            self._prepare()
        except apsw.Error as error:
            self._connection.close()
            raise RegistryError(_why_not(path, error)) from error
        except RegistryError:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        connection = self._connection
        connection.set_busy_timeout(_BUSY_MS)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        use_wal(connection, _BUSY_MS / 1000)
        connection.pragma("synchronous", "FULL")
        connection.pragma("trusted_schema", 0)
        # What is deleted is overwritten: a secret does not stay behind in a free page.
        connection.pragma("secure_delete", 1)
        migrate(connection, self._seal)
        connection.pragma("foreign_keys", 1)

    def close(self) -> None:
        self._connection.close()

    @property
    def proof(self) -> bytes:
        """What tells which key the registry's secrets are sealed with."""
        return bytes(self.value("SELECT proof FROM seal"))

    @property
    def seal(self) -> Seal:
        """With the key of this transaction: another process may have replaced it since the last one."""
        self._seal.choose(self.proof)
        return self._seal

    def empty_log(self) -> None:
        """Takes what was overwritten out of the write-ahead log, unless somebody reads there just now.

        Raises `RegistryError`.
        """
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except apsw.BusyError:
            pass  # the next checkpoint does it
        except apsw.Error as error:
            raise RegistryError(f"What was overwritten is still in the registry's log: {error}") from error

    def data_version(self) -> int:
        """A number that differs from the last one if another connection has written."""
        return int(self._connection.pragma("data_version"))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that no other can come between; what it wrote is on disk when it ends."""
        with self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        with self._transaction("BEGIN"):
            yield

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._connection.execute(begin)
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def execute(self, sql: str, *parameters: Value) -> int:
        """Runs one statement; how many rows it changed."""
        self._connection.execute(sql, parameters)
        return self._connection.changes()

    def rows(self, sql: str, *parameters: Value) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters).fetchall()

    def value(self, sql: str, *parameters: Value) -> Any:
        """The one value of the one row."""
        ((value,),) = self.rows(sql, *parameters)
        return value

    def last_insert_rowid(self) -> int:
        return self._connection.last_insert_rowid()


def now() -> datetime:
    """The time as the registry keeps it: in whole milliseconds."""
    return from_milliseconds(time.time_ns() // 1_000_000)


def from_milliseconds(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def milliseconds(moment: datetime) -> int:
    """Since 1970. Rounded down: what ends at a moment is not to last longer."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _why_not(path: Path, error: apsw.Error) -> str:
    match error:
        case apsw.NotADBError() | apsw.CorruptError():
            what = "restore a backup as a new data directory (cloister restore)"
            return f"The registry {path} is damaged or not a registry: {error}. It stays as it is; {what}."
        case apsw.BusyError():
            return f"The registry {path} is in use by another program: {error}. End that program and start again."
        case _:
            return f"The registry {path} cannot be used: {error}."
