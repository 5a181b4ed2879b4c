"""Time travel: which state is meant, and bringing the database back to it.

A restore is one transaction like any other: others see all of it or nothing, and as its own changes come into the
history it can be undone in the same way.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import apsw

from host_bindings.d1 import bookmark
from host_bindings.d1.bookmark import Bookmark
from host_bindings.d1.checkpoint import Checkpointer
from host_bindings.d1.errors import RequestRefused
from host_bindings.d1.history import HistoryDamaged, Seal
from host_bindings.d1.limits import SqlLimits
from host_bindings.d1.requests import Moment, Travel

_BUSY_S = 35.0
"""Longer than any request of another process may take."""
_PAUSE_S = 0.05
_WAL_MODE_AT = 18
"""Where a database's header says that it has a write-ahead log."""


class Traveller:
    """For one connection. Raises `RequestRefused` where a state cannot be had."""

    def __init__(self, checkpointer: Checkpointer, database_id: str, page_bytes: int, limits: SqlLimits) -> None:
        self._checkpointer = checkpointer
        self._history = checkpointer.history
        self._id = database_id
        self._page_bytes = page_bytes
        self._limits = limits

    def find(self, moment: Moment) -> Travel:
        """The bookmark of a state."""
        present = self._seal_present()
        with self._history.locked():
            return Travel(self._bookmark(self._choose(moment, present)))

    def restore(self, moment: Moment, connection: apsw.Connection) -> Travel:
        """Puts the database back into a state, through `connection`. On disk when this returns."""
        present = self._seal_present()
        with self._history.locked():
            seal = self._choose(moment, present)
            if seal.number == present.number:
                return Travel(self._bookmark(seal), self._bookmark(present))
            with self._earlier_file(seal) as path:
                self._replace(connection, path)
        return Travel(self._bookmark(seal), self._bookmark(present))

    def _seal_present(self) -> Seal:
        until = time.monotonic() + _BUSY_S
        while (seal := self._checkpointer.seal()) is None:
            if time.monotonic() > until:
                raise RequestRefused("The database is busy. Try again.")
            time.sleep(_PAUSE_S)
        return seal

    def _bookmark(self, seal: Seal) -> str:
        return str(Bookmark(seal.time_ms, seal.number, self._id))

    # Which

    def _choose(self, moment: Moment, present: Seal) -> Seal:
        if moment.bookmark is not None:
            return self._of_bookmark(moment.bookmark)
        return present if moment.timestamp_ms is None else self._of_time(moment.timestamp_ms)

    def _of_bookmark(self, text: str) -> Seal:
        named = bookmark.parse(text)
        if named is None or named.database != self._id:
            raise RequestRefused("The bookmark is not one of this database.")
        # A history that has begun anew may number its states as the one before did: those are later than the bookmark.
        known = (seal for seal in self._history.seals() if seal.time_ms <= named.time_ms)
        found = next((seal for seal in known if seal.number == named.seal), None)
        return found or self._of_time(named.time_ms)

    def _of_time(self, time_ms: int) -> Seal:
        """The last state that was written by then. Within the present minute that is the minute's beginning."""
        now_ms = time.time_ns() // 1_000_000
        if time_ms > now_ms:
            raise RequestRefused("The time lies in the future.")
        seals = self._history.seals()
        found = next((seal for seal in reversed(seals) if seal.last_write_ms <= time_ms), None)
        if time_ms < now_ms - self._limits.history_ms or found is None:
            oldest = max(seals[0].last_write_ms, now_ms - self._limits.history_ms)
            since = datetime.fromtimestamp(oldest / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            raise RequestRefused(f"Time travel reaches back to {since}.")
        return found

    # How

    @contextlib.contextmanager
    def _earlier_file(self, seal: Seal) -> Iterator[str]:
        """A database file as it was then."""
        for left in self._history.directory.glob("restore*"):
            left.unlink(missing_ok=True)
        path = self._history.directory / "restore.sqlite"
        try:
            self._build(path, seal)
            yield str(path)
        finally:
            path.unlink(missing_ok=True)

    def _build(self, path: Path, seal: Seal) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._checkpointer.copy_file(descriptor)
            for number, page in self._history.pages_since(seal.number):
                os.pwrite(descriptor, page, (number - 1) * self._page_bytes)
            os.ftruncate(descriptor, seal.pages * self._page_bytes)
            if seal.pages:
                os.pwrite(descriptor, b"\1\1", _WAL_MODE_AT)
        except HistoryDamaged:
            raise RequestRefused("The database's history is damaged. Choose a later time.") from None
        finally:
            os.close(descriptor)

    def _replace(self, connection: apsw.Connection, path: str) -> None:
        earlier = apsw.Connection(path)
        try:
            if earlier.pragma("quick_check") != "ok":
                raise RequestRefused("The database's history is damaged. Choose a later time.")
            until = time.monotonic() + _BUSY_S
            while True:
                try:
                    with connection.backup("main", earlier, "main") as backup:
                        backup.step(-1)
                    return
                except apsw.BusyError:
                    if time.monotonic() > until:
                        raise
        finally:
            earlier.close(True)
