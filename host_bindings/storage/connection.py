"""How a store's SQLite file is opened: every connection to one is made here. Everything here blocks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

from host_bindings.storage.directories import make_directory
from host_bindings.storage.wal import use_wal

BUSY_SECONDS = 10.0
"""How long to wait for another process' transaction. They last milliseconds."""

_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX
_CACHE_KIB = 1024
_WAL_KEPT_BYTES = 8 * 1024 * 1024

Prepare = Callable[[apsw.Connection], None]
"""Brings the schema up to date, within a transaction that has the write lock."""


def open_connection(
    path: Path, prepare: Prepare, version: int, *, read_only: bool, vfs: str | None = None
) -> apsw.Connection:
    """A connection to the file, which is made if it is missing, with the schema's `version` prepared.

    Raises `apsw.Error` and `OSError`.
    """
    make_directory(path.parent)
    # SQLite gives its -wal and -shm files the mode of the file itself. One that is there must not be opened and closed:
    # that would drop the locks of this process' other connections (POSIX), and other processes would not respect them.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = apsw.Connection(str(path), flags=_FLAGS, vfs=vfs)
    try:
        connection.set_busy_handler(_wait)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        use_wal(connection, BUSY_SECONDS)
        # FULL: a commit returns after its fsync. Without it a power failure takes back what was acknowledged.
        for name, value in (
            ("synchronous", "FULL"),
            ("cache_size", -_CACHE_KIB),
            ("temp_store", "MEMORY"),
            ("journal_size_limit", _WAL_KEPT_BYTES),
        ):
            connection.pragma(name, value)
        if connection.pragma("user_version") != version:
            with transaction(connection):
                if connection.pragma("user_version") != version:
                    prepare(connection)
                    connection.pragma("user_version", version)
        if read_only:
            connection.pragma("query_only", 1)
    except BaseException:
        connection.close(True)
        raise
    return connection


def identity(path: Path | str) -> tuple[int, int] | None:
    """Tells a file from another one that has taken its place; None if there is none.

    Data can be deleted for good, or put back from a copy, while another process has it open. That process must not go
    on with what is not there any more.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """A transaction that no other writer can come between."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def snapshot(connection: apsw.Connection) -> Iterator[None]:
    """Statements that are to see the same state. Within a transaction they do so anyway."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def rows(connection: apsw.Connection, sql: str, parameters: Sequence[str | bytes | int | None]) -> list[Any]:
    """All rows of one statement. Nothing of the statement stays open, as `Database` demands."""
    return connection.execute(sql, parameters).fetchall()


def _wait(calls: int) -> bool:
    # SQLite's own handler soon sleeps for 100 ms, a hundred times as long as another process needs for its commit.
    step = min(0.0002 * (calls + 1), 0.005)
    time.sleep(step)
    return calls * 0.005 < BUSY_SECONDS
