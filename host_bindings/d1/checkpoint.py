"""Checkpoints of the write-ahead log, which SQLite is not left to do: each page that one replaces is kept first.

Between two checkpoints the database's file is as it was at the first: what a page was like is read from there. A state
is sealed when the log's content has come into the file as a whole, and before the first request of a new minute, so
that the state at each full minute is a sealed one. Any process may do it, under the history's lock and SQLite's own
write lock.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import apsw

from host_bindings.d1.history import History, Seal
from host_bindings.d1.limits import SqlLimits

_log = logging.getLogger(__name__)

_WAL_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_WAITING_CHECKPOINTS = 16


class Database(Protocol):
    """What is asked of the connection whose database this is."""

    page_bytes: int

    def begin(self, *, immediate: bool = False) -> None: ...

    def rollback(self) -> None: ...

    def page_count(self) -> int: ...


class Checkpointer:
    """Of one connection, at whose end it is to be closed."""

    def __init__(self, database: Database, path: str, limits: SqlLimits) -> None:
        self._database = database
        self._path = path
        self._log_path = f"{path}-wal"
        self._limits = limits
        self.history = History(Path(path).parent, limits)
        # Kept open as long as the connection: closing any descriptor of the file gives up SQLite's locks on it.
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._interval = -1
        self._sealed_log_ns = -1
        self._threshold = limits.checkpoint_pages
        self._log_pages = 0

    def close(self) -> None:
        """After the connection."""
        os.close(self._file)

    # When

    def committed(self, log_pages: int) -> None:
        """Notes the length of the log after a commit."""
        self._log_pages = log_pages

    def before_work(self) -> None:
        """Seals what was written before this minute. Costs next to nothing if it has been looked at."""
        interval = time.time_ns() // 1_000_000 // self._limits.history_interval_ms
        if interval == self._interval:
            return
        self._interval = interval
        try:
            status = os.stat(self._log_path)
        except FileNotFoundError:
            return
        if status.st_size <= _WAL_HEADER_BYTES or status.st_mtime_ns == self._sealed_log_ns:
            return
        if status.st_mtime_ns // 1_000_000 // self._limits.history_interval_ms < interval:
            self.seal()

    def after_work(self) -> None:
        """Brings a long log into the file."""
        if self._log_pages < self._threshold:
            if self._log_pages < self._limits.checkpoint_pages:
                self._threshold = self._limits.checkpoint_pages
            return
        self._threshold = self._log_pages + self._limits.checkpoint_pages
        with self.history.locked(wait=False) as locked:
            if locked:
                self._checkpoint(seal=False)

    def seal(self) -> Seal | None:
        """The seal of the present state; None if a reader or writer was in the way."""
        with self.history.locked():
            return self._checkpoint(seal=True)

    # How

    def _checkpoint(self, *, seal: bool) -> Seal | None:
        try:
            self._database.begin(immediate=True)
        except apsw.BusyError:
            return None
        try:
            with self._second_connection() as second:
                return self._checkpoint_locked(second, seal=seal)
        finally:
            self._database.rollback()

    @contextlib.contextmanager
    def _second_connection(self) -> Iterator[apsw.Connection]:
        """A checkpoint cannot be made by the connection that holds the write lock."""
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
        second = apsw.Connection(self._path, flags=flags)
        try:
            second.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            second.pragma("schema_version")  # opens the log
            yield second
        finally:
            second.close(True)

    def _checkpoint_locked(self, second: apsw.Connection, *, seal: bool) -> Seal | None:
        frames = max(0, second.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0])
        salts, written_ns = self._read_log_header()
        try:
            newest = self._keep(salts, frames)
        except OSError as error:
            if not self._gives_up(error, frames):
                return None
            newest = None
        if newest is not None and newest.salts == salts and newest.frames == frames:
            self._sealed_log_ns = written_ns
            return newest
        length, done = second.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if done < length:
            return None
        if newest is None or seal:
            newest = self._write_seal(newest, written_ns, salts, frames)
            self._sealed_log_ns = written_ns
        return newest

    def _write_seal(self, before: Seal | None, written_ns: int, salts: tuple[int, int], frames: int) -> Seal | None:
        now_ms = time.time_ns() // 1_000_000
        number = now_ms // 1_000 if before is None else before.number + 1
        seal = Seal(number, now_ms, written_ns // 1_000_000, self._database.page_count(), salts, frames)
        try:
            self.history.seal(seal)
        except OSError as error:
            _log.warning("A state of a database could not be sealed: %s", error)
            return None
        return seal

    def _keep(self, salts: tuple[int, int], frames: int) -> Seal | None:
        """Keeps the pages that the log's first `frames` frames are going to replace. The newest seal, None if the
        history begins anew. Raises `OSError`."""
        if self.history.full:
            self.history.drop()
        newest = self.history.newest or self._begin_history()
        if newest is None:
            return None
        numbers = self._pages_in_log(newest.frames if newest.salts == salts else 0, frames)
        numbers.update(range(self._database.page_count() + 1, newest.pages + 1))  # a restore has cut them off
        wanted = sorted(n for n in numbers - self.history.kept if n <= newest.pages)
        if wanted:
            self.history.keep(wanted, self._read_page)
        return newest

    def _begin_history(self) -> Seal | None:
        """The seal of the empty database, if nothing has come into its file yet."""
        if os.fstat(self._file).st_size > self._database.page_bytes:
            return None
        now_ms = time.time_ns() // 1_000_000
        seal = Seal(now_ms // 1_000, now_ms, 0, 0, (0, 0), 0)
        self.history.seal(seal)
        return seal

    def _gives_up(self, error: OSError, frames: int) -> bool:
        """A failure may pass: the log waits for the next try. When it has become too long, the database goes on without
        its history."""
        if frames < _WAITING_CHECKPOINTS * self._limits.checkpoint_pages:
            _log.warning("The history of a database could not be written: %s", error)
            return False
        _log.warning("The history of a database begins anew: %s", error)
        with contextlib.suppress(OSError):
            self.history.drop()
        return True

    def _read_log_header(self) -> tuple[tuple[int, int], int]:
        """The log's salts and the time of the last write, in nanoseconds."""
        try:
            with open(self._log_path, "rb") as log:
                header = log.read(_WAL_HEADER_BYTES)
                written_ns = os.fstat(log.fileno()).st_mtime_ns
        except FileNotFoundError:
            return (0, 0), 0
        if len(header) < _WAL_HEADER_BYTES:
            return (0, 0), 0
        words = struct.unpack(">8I", header)
        return (words[4], words[5]), written_ns

    def _pages_in_log(self, start: int, end: int) -> set[int]:
        """The numbers of the pages in the log's frames from `start` to `end`."""
        numbers = set()
        if start < end:
            step = self._database.page_bytes + _FRAME_HEADER_BYTES
            with open(self._log_path, "rb", buffering=0) as log:
                for frame in range(start, end):
                    number = os.pread(log.fileno(), 4, _WAL_HEADER_BYTES + frame * step)
                    numbers.add(int.from_bytes(number, "big"))
        return numbers

    def _read_page(self, number: int) -> bytes:
        size = self._database.page_bytes
        return os.pread(self._file, size, (number - 1) * size).ljust(size, b"\0")

    # For a restore, under the history's lock

    def copy_file(self, target: int) -> None:
        """Copies the database's file, as the newest seal knows it, to a descriptor."""
        size = os.fstat(self._file).st_size
        position = 0
        while position < size:
            copied = os.sendfile(target, self._file, position, size - position)
            if not copied:
                break
            position += copied
