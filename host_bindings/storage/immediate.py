"""Reads on the event loop that never wait for the disk.

A hop to a thread and back costs ten times what a short read costs whose pages are in memory. So a database in use has
one connection more, for the event loop, whose pages come from the operating system's page cache or not at all. An
operation for which a page is missing, or that turns out to be long, ends with `NotNow` and is done again on a thread,
which brings the pages in.

Where the system cannot be asked that way, every operation ends with `NotNow`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TypeVar

import apsw

from host_bindings.cached import can_be_asked, read_cached
from host_bindings.storage.connection import identity
from host_bindings.storage.threads import OpenConnections, Threads

T = TypeVar("T")

READS_BEFORE = 3
"""A database that is read once in a while need not have another connection open."""

PAGES_MAX = 24
"""Pages that one operation may take from the page cache, about 2 us each."""

LOOK_S = 0.2
"""How often to look whether the file is still the one that was opened."""

STEPS = 500
STEPS_MAX = 8 * STEPS
"""About how many steps of SQLite's virtual machine one operation may take: a tenth of a millisecond."""

_LOG = logging.getLogger("cloister.storage")

VFS_NAME = "cloister-immediate"

_DESCRIPTORS = "/proc/self/fd"


class NotNow(Exception):
    """The operation would have to wait, or takes long: do it on a thread."""


class ImmediateLane:
    """A database's reads on the event loop. They begin when the database has been read a few times.

    `open_connection` opens a connection by the VFS of the given name; it blocks. `read` is for the event loop,
    `release` for any thread.
    """

    def __init__(
        self,
        path: Path,
        open_connection: Callable[[str], apsw.Connection],
        pool: Threads,
        connections: OpenConnections,
    ) -> None:
        self._path = path
        self._identity: tuple[int, int] | None = None
        self._looked_at = 0.0
        self._open_connection = open_connection
        self._pool = pool
        self._connections = connections
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Future[_Reader] | None = None
        self._reader: _Reader | None = None
        self._reads_until_open = READS_BEFORE
        self._closed = False

    def read(self, operation: Callable[[apsw.Connection], T]) -> T:
        """What the operation returns or raises. Raises `NotNow` if that cannot be had at once."""
        reader = self._reader
        if reader is None:
            self._approach()
            raise NotNow
        if self._loop is not asyncio.get_running_loop():
            raise NotNow
        now = monotonic()
        if now - self._looked_at > LOOK_S:
            self._looked_at = now
            if identity(self._path) != self._identity:
                self._drop()
                raise NotNow
        self._connections.used(self)
        return reader.read(operation)

    def release(self) -> None:
        """Closes the connection until the database is read again."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(self._drop)

    async def close(self) -> None:
        """Closes the connection for good."""
        self._closed = True
        if self._opening is not None:
            await asyncio.wait((self._opening,))
        reader, self._reader = self._reader, None
        self._connections.closed(self)
        if reader is not None:
            await self._pool.run(reader.close)

    def _approach(self) -> None:
        """Opens the connection, on a thread, if this is the time for it."""
        self._reads_until_open -= 1
        if self._reads_until_open != 0 or self._closed:
            return
        self._loop = asyncio.get_running_loop()
        self._opening = self._pool.run(lambda: _Reader(self._open_connection))
        self._opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Future[_Reader]) -> None:
        self._opening = None
        if opening.cancelled() or (error := opening.exception()) is not None:
            # Not on this system, or not now: then threads do it all, which also find out what is wrong.
            if not opening.cancelled() and not isinstance(error, NotNow):
                _LOG.debug("no reads on the event loop: %s", error)
            return
        self._reader = opening.result()
        self._identity = self._reader.identity
        self._connections.used(self)

    def _drop(self) -> None:
        reader, self._reader = self._reader, None
        self._reads_until_open = READS_BEFORE
        self._connections.closed(self)
        if reader is not None:
            self._pool.submit(reader.close)


class _Reader:
    """The connection. Raises `NotNow` from `__init__` where this system cannot have one."""

    def __init__(self, open_connection: Callable[[str], apsw.Connection]) -> None:
        vfs = _registered()
        if vfs is None:
            raise NotNow
        files = self._files = _Files()
        vfs.opening.files = files
        try:
            connection = self._connection = open_connection(VFS_NAME)
            self.identity = identity(connection.db_filename("main"))
        finally:
            vfs.opening.files = None
        try:
            if not files.can_be_asked:
                raise NotNow
            # The last connection to close copies the log into the database: not by one that cannot wait.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.set_busy_handler(None)
            connection.set_progress_handler(files.is_long, STEPS)
        except BaseException:
            connection.close(True)
            raise
        files.waits = False

    def read(self, operation: Callable[[apsw.Connection], T]) -> T:
        self._files.begin()
        try:
            return operation(self._connection)
        except (apsw.Error, BlockingIOError):
            # Whatever it is, a thread finds it too and knows what to say.
            raise NotNow from None

    def close(self) -> None:
        """Blocks."""
        self._files.waits = True
        with contextlib.suppress(apsw.Error):
            self._connection.close(True)


class _Files:
    """The open files of one connection, and what the operation that runs may still do."""

    def __init__(self) -> None:
        self.waits = True
        """The connection is being opened or closed, on a thread."""
        self.can_be_asked = False
        """The database's file can be read without waiting."""
        self.pages_left = 0
        self._steps_left = STEPS_MAX

    def begin(self) -> None:
        self.pages_left = PAGES_MAX
        self._steps_left = STEPS_MAX

    def is_long(self) -> bool:
        """SQLite asks after every `STEPS` steps."""
        self._steps_left -= STEPS
        return self._steps_left < 0


class _File(apsw.VFSFile):
    """A file of SQLite's that is read from memory or not at all."""

    def __init__(self, name: str | apsw.URIFilename, flags: list[int], files: _Files) -> None:
        path = name if isinstance(name, str) else name.filename()
        # SQLite does not tell its descriptor, and one of our own must not be: to close it would drop SQLite's locks
        # on the file (POSIX). Opening is serialised for each database, so what is new here is it.
        before = _descriptors(path)
        super().__init__("", name, flags)
        opened = _descriptors(path) - before
        self._descriptor = opened.pop() if len(opened) == 1 else -1
        self._files = files
        if apsw.SQLITE_OPEN_MAIN_DB & flags[0]:
            files.can_be_asked = can_be_asked(self._descriptor)

    def xRead(self, amount: int, offset: int) -> bytes:
        files = self._files
        if files.waits:
            return super().xRead(amount, offset)
        files.pages_left -= 1
        if files.pages_left < 0:
            raise apsw.BusyError("not now")
        try:
            return read_cached(self._descriptor, amount, offset)
        except BlockingIOError:
            raise apsw.BusyError("not now") from None


class _Vfs(apsw.VFS):
    """SQLite's own VFS but for reading."""

    def __init__(self) -> None:
        self.opening = _Opening()
        super().__init__(VFS_NAME, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        files = self.opening.files
        if files is None or name is None:
            return apsw.VFSFile("", name, flags)
        return _File(name, flags, files)


class _Opening(threading.local):
    """Whose connection this thread is opening."""

    files: _Files | None = None


_lock = threading.Lock()
_vfs: _Vfs | None = None


def _registered() -> _Vfs | None:
    """The VFS, once for the process; None where it would be of no use."""
    global _vfs
    if not os.path.isdir(_DESCRIPTORS):
        return None
    with _lock:
        if _vfs is None:
            _vfs = _Vfs()
    return _vfs


def _descriptors(path: str) -> set[int]:
    """Of this process' open files those that are `path`."""
    real = os.path.realpath(path)
    found = set()
    for name in os.listdir(_DESCRIPTORS):
        try:
            if os.readlink(f"{_DESCRIPTORS}/{name}") == real:
                found.add(int(name))
        except OSError:
            continue
    return found
