"""Copies of what other processes write to at the same moment, for backups. Everything here blocks."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

import apsw

from host_bindings.storage.connection import BUSY_SECONDS
from host_bindings.storage.directories import make_directory

_READ_ONLY = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOMUTEX


def copy_database(source: Path, target: Path) -> None:
    """A SQLite file as it is at one moment, whoever writes meanwhile, and nobody has to wait for it.

    Page by page, so that what a tenant has put into it is never run. `target` is new, without a log of its own, and on
    disk. Raises `apsw.Error` and `OSError`; `FileNotFoundError` if there is no source.
    """
    os.stat(source)
    _create(target)
    with closing(_open(source, _READ_ONLY)) as reading, closing(_open(target, apsw.SQLITE_OPEN_READWRITE)) as writing:
        with writing.backup("main", reading, "main") as backup:
            # In one step: a copy in several begins anew whenever another process has written.
            while not backup.done:
                backup.step(-1)
        # The header says WAL, as the source's does; nothing is in a log that is cleared away before it is closed.
        writing.pragma("journal_mode", "DELETE")
    sync_file(target)


def copy_file(source: Path, target: Path) -> None:
    """A file that is not changed, but may be gone: `FileNotFoundError`. On disk when this returns."""
    with source.open("rb") as reading, open(_create(target), "wb") as writing:
        shutil.copyfileobj(reading, writing, 1024 * 1024)
        writing.flush()
        os.fsync(writing.fileno())


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(target: Path) -> Path:
    """An empty file for this user alone, in place of one that may be there."""
    make_directory(target.parent)
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return target


def _open(path: Path, flags: int) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=flags)
    connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
    # Whoever closes a file last brings its log into it; that is its owner's business alone.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    return connection
