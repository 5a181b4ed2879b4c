"""How much the stores of one tenant hold, and whether they may hold more.

Used on storage threads, inside the transaction that is about to write. A store gets room in advance, so that it is
measured now and then and not at every write; what is given out counts as used, so that all stores of a tenant together
keep to the limit.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from host_bindings.allowance import STATUS
from host_bindings.contract import LimitReached

ROOM_BYTES_MAX = 64 * 1024 * 1024
"""The most that a store gets in advance."""

LOOK_AGAIN_S = 1.0
"""How often, at most, the other stores are measured again for a write that finds no room."""

Measure = Callable[[apsw.Connection], int]
"""What a store holds, in bytes, by the connection to its database. Must be quick."""


class Quota:
    """Of one kind of store, all under `directory`, each with its database in a file called `file`."""

    def __init__(self, code: str, directory: Path, file: str, limit: Callable[[], int], measure: Measure) -> None:
        """`limit` gives the present limit in bytes; `code` names it."""
        self._code = code
        self._directory = directory
        self._file = file
        self._limit = limit
        self._measure = measure
        self._lock = threading.Lock()
        self._used: dict[str, int] = {}
        """By store: what it holds or has room for already."""
        self._room: dict[str, int] = {}
        self._looked_at = 0.0
        self._incoming_bytes = 0

    @property
    def limit(self) -> int:
        return self._limit()

    def take(self, store: str, size_bytes: int, connection: apsw.Connection, *, written: bool = False) -> None:
        """Counts what is about to be written, or has been in this transaction. Raises `LimitReached` if there is no
        room for it."""
        with self._lock:
            room = self._room.get(store, 0) - size_bytes
            if room < 0:
                room = self._give(store, 0 if written else size_bytes, connection)
            self._room[store] = room

    @contextmanager
    def receiving(self, size_bytes: int) -> Iterator[None]:
        """While so much comes in, before it is counted: the limit holds for all that comes in at once, too.

        On the event loop. Raises `LimitReached`.
        """
        if self._incoming_bytes + size_bytes > self._limit():
            raise self.exceeded()
        self._incoming_bytes += size_bytes
        try:
            yield
        finally:
            self._incoming_bytes -= size_bytes

    def exceeded(self) -> LimitReached:
        return LimitReached(
            self._code, STATUS[self._code], "Error", f"The tenant's storage is full. (limit: {self._limit()} bytes)"
        )

    def _give(self, store: str, size_bytes: int, connection: apsw.Connection) -> int:
        used = self._measure(connection)
        stores = self._look(store, again=False)
        left = self._limit() - used - size_bytes - sum(stores.values())
        if left < 0 and time.monotonic() - self._looked_at > LOOK_AGAIN_S:
            stores = self._look(store, again=True)
            left = self._limit() - used - size_bytes - sum(stores.values())
        if left < 0:
            self._used[store], self._room[store] = used, 0
            raise self.exceeded()
        room = min(left, ROOM_BYTES_MAX) // (2 * (1 + len(stores)))
        self._used[store] = used + size_bytes + room
        return room

    def _look(self, store: str, *, again: bool) -> dict[str, int]:
        """The other stores that there are, and what they hold."""
        names = [entry.name for entry in os.scandir(self._directory) if entry.name != store]
        if again:
            self._looked_at = time.monotonic()
        found = {}
        for name in names:
            known = self._used.get(name)
            if known is None or again:
                known = self._room.get(name, 0) + self._measure_file(self._directory / name / self._file)
            found[name] = self._used[name] = known
        for gone in self._used.keys() - found.keys() - {store}:
            del self._used[gone]
            self._room.pop(gone, None)
        return found

    def _measure_file(self, path: Path) -> int:
        if not path.exists():
            return 0
        # Damaged, or not made yet? Its file is all that can be told of it.
        return path.stat().st_size if (held := measure_file(path, self._measure)) is None else held


def measure_file(path: Path, measure: Measure) -> int | None:
    """What the store with its database in this file holds; None if that cannot be told."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    except apsw.Error:
        return None
    try:
        return measure(connection)
    except apsw.Error:
        return None
    finally:
        connection.close(True)


def pages_in_use(connection: apsw.Connection) -> int:
    """The bytes of a database without those of its free pages."""
    pages = int(connection.pragma("page_count")) - int(connection.pragma("freelist_count"))
    return pages * int(connection.pragma("page_size"))
