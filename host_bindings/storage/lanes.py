"""The two queues of a database, one for reads and one for writes, and how threads work them off."""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from host_bindings.storage.connection import identity, snapshot
from host_bindings.storage.failures import busy, closed, from_error
from host_bindings.storage.threads import OpenConnections, Threads

PENDING_MAX = 10_000
"""Operations that may wait in a lane."""

GROUP_OPERATIONS_MAX = 1_000
GROUP_BYTES_MAX = 32 * 1024 * 1024
"""What one transaction takes, so that no one waits long behind a crowd."""

CHECKPOINT_PAGES = 1_000
"""After so many pages in the log they are copied into the database, between two groups."""

CHECKPOINT_WAITING_PAGES = 16_000
"""After so many it waits for readers, so that the log cannot grow without end."""

_LOG = logging.getLogger("cloister.storage")

_FATAL = (
    apsw.FullError,
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.NoMemError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
)
"""Errors of the file, not of one operation: the group fails and the connection is not used again."""


@dataclass(slots=True, eq=False)
class Job:
    operation: Callable[[apsw.Connection], Any]
    loop: asyncio.AbstractEventLoop | None = None
    future: asyncio.Future[Any] | None = None
    size_bytes: int = 0
    single_statement: bool = False
    value: Any = None
    error: BaseException | None = None


class _Lane(ABC):
    """A queue of operations on one connection, worked off by at most one thread at a time."""

    read_only: bool

    def __init__(
        self,
        path: Path,
        open_connection: Callable[[bool], apsw.Connection],
        pool: Threads,
        connections: OpenConnections,
    ) -> None:
        """`path` is the database's file. `open_connection` takes whether it is only for reading, and blocks."""
        self._path = path
        self._identity: tuple[int, int] | None = None
        self._open_connection = open_connection
        self._pool = pool
        self._connections = connections
        self._lock = threading.Lock()
        self._pending: deque[Job] = deque()
        self._running = False
        self._release = False
        self._ended: Future[None] | None = None
        self._connection: apsw.Connection | None = None

    def submit(self, job: Job) -> None:
        with self._lock:
            if self._ended is not None:
                raise closed()
            if len(self._pending) >= PENDING_MAX:
                raise busy()
            self._pending.append(job)
            if self._running:
                return
            self._running = True
        self._pool.submit(self._run)

    def release(self) -> None:
        """Closes the connection when there is nothing to do."""
        with self._lock:
            self._release = True
            if self._running:
                return
            self._running = True
        self._pool.submit(self._run)

    def close(self) -> Future[None]:
        """Refuses new operations; the future is done when the old ones are, and the connection is closed."""
        with self._lock:
            if self._ended is not None:
                return self._ended
            ended: Future[None] = Future()
            self._ended = ended
        self.release()
        return ended

    def _run(self) -> None:
        jobs = self._take()
        if jobs:
            self._execute(jobs)
            _deliver(jobs)
            self._after()
        del jobs
        with self._lock:
            again = bool(self._pending)
            if not again and not self._release:
                self._running = False
                return
        if again:
            # Behind the other databases that wait.
            self._pool.submit(self._run)
            return
        self._drop_connection()
        with self._lock:
            self._release = False
            again = self._running = bool(self._pending)
            ended = self._ended
        if again:
            self._pool.submit(self._run)
        elif ended is not None and not ended.done():
            ended.set_result(None)

    def _take(self) -> list[Job]:
        jobs: list[Job] = []
        size = 0
        with self._lock:
            while self._pending and len(jobs) < GROUP_OPERATIONS_MAX and size < GROUP_BYTES_MAX:
                job = self._pending.popleft()
                if job.future is not None and job.future.cancelled():
                    continue
                jobs.append(job)
                size += job.size_bytes
        return jobs

    def _execute(self, jobs: Sequence[Job]) -> None:
        """Gives each job its value or its error. Does not raise."""
        try:
            if self._connection is not None and identity(self._path) != self._identity:
                self._drop_connection()
            connection = self._connection
            if connection is None:
                connection = self._connection = self._open()
                self._identity = identity(self._path)
            self._connections.used(self)
            self._execute_on(connection, jobs)
        except BaseException as error:
            _log(error)
            for job in jobs:
                job.value, job.error = None, from_error(error)
            self._drop_connection()

    def _open(self) -> apsw.Connection:
        return self._open_connection(self.read_only)

    @abstractmethod
    def _execute_on(self, connection: apsw.Connection, jobs: Sequence[Job]) -> None:
        """Raises if all of the jobs failed together and the connection is not to be used again."""

    def _after(self) -> None:  # noqa: B027 - most lanes have nothing to do
        """What can be done when all have been answered."""

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._connections.closed(self)
        try:
            connection.close(True)
        except Exception as error:
            _log(error)


class ReadLane(_Lane):
    read_only = True

    def _execute_on(self, connection: apsw.Connection, jobs: Sequence[Job]) -> None:
        if len(jobs) == 1:
            _perform(connection, jobs[0])
            return
        # One snapshot for all: it is cheaper than one each, and all were asked for before it was taken.
        with snapshot(connection):
            for job in jobs:
                _perform(connection, job)


class WriteLane(_Lane):
    read_only = False

    def __init__(
        self,
        path: Path,
        open_connection: Callable[[bool], apsw.Connection],
        pool: Threads,
        connections: OpenConnections,
    ) -> None:
        super().__init__(path, open_connection, pool, connections)
        self._log_pages = 0

    def _open(self) -> apsw.Connection:
        connection = super()._open()
        # Instead of SQLite's automatic checkpoint, which would keep the writer waiting who happens to meet it.
        connection.set_wal_hook(self._note_pages)
        return connection

    def _execute_on(self, connection: apsw.Connection, jobs: Sequence[Job]) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError as error:
            _log(error)
            for job in jobs:
                job.error = busy()
            return
        if len(jobs) == 1:
            _perform(connection, jobs[0])
            if jobs[0].error is not None:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                return
        else:
            for job in jobs:
                _perform_apart(connection, job)
        connection.execute("COMMIT")

    def _note_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._log_pages = pages
        return 0

    def _after(self) -> None:
        if self._log_pages < CHECKPOINT_PAGES or self._connection is None:
            return
        waiting = self._log_pages >= CHECKPOINT_WAITING_PAGES
        self._log_pages = 0
        try:
            self._connection.wal_checkpoint(
                mode=apsw.SQLITE_CHECKPOINT_RESTART if waiting else apsw.SQLITE_CHECKPOINT_PASSIVE
            )
        except apsw.BusyError:
            pass
        except apsw.Error as error:
            _log(error)
            self._drop_connection()


def _perform(connection: apsw.Connection, job: Job) -> None:
    """Runs one job. Raises only errors of the file; they concern all who share the transaction."""
    try:
        job.value = job.operation(connection)
    except _FATAL:
        raise
    except Exception as error:
        if isinstance(error, apsw.Error):
            _log(error)
            job.error = from_error(error)
        else:
            job.error = error


def _perform_apart(connection: apsw.Connection, job: Job) -> None:
    """Runs one of several jobs so that it can fail alone."""
    if job.single_statement:
        _perform(connection, job)
    else:
        connection.execute("SAVEPOINT job")
        _perform(connection, job)
        if job.error is not None and connection.in_transaction:
            connection.execute("ROLLBACK TO job")
        if connection.in_transaction:
            connection.execute("RELEASE job")
    if not connection.in_transaction:
        # Some errors end a transaction; what the jobs before have done is lost with it.
        raise apsw.AbortError("the transaction was rolled back by an error within it")


def _deliver(jobs: Sequence[Job]) -> None:
    waiting: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        if job.loop is not None:
            waiting.setdefault(job.loop, []).append(job)
        elif job.error is not None:
            _LOG.warning("housekeeping failed: %s", job.error)
    for loop, group in waiting.items():
        try:
            loop.call_soon_threadsafe(_settle, group)
        except RuntimeError:
            # The loop has been closed, and with it whoever waited.
            continue


def _settle(jobs: Sequence[Job]) -> None:
    for job in jobs:
        future = job.future
        if future is None or future.done():
            continue
        if job.error is not None:
            future.set_exception(job.error)
        else:
            future.set_result(job.value)


def _log(error: BaseException) -> None:
    _LOG.error("storage: %s: %s", type(error).__name__, error)
