"""One SQLite file for a store: reads beside writes, and writes that are committed in groups.

A database has two lanes, one for reads and one for writes. Each has a queue and, when there is something in it, one of
the process' threads; so a connection is only ever used by one thread at a time, and what waits together is done
together. All writes that wait become one transaction with one fsync; each is answered after the commit, with its own
result or its own error. Short reads of what is in memory are done on the event loop at once: see `immediate`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import apsw

from host_bindings.storage import threads
from host_bindings.storage.connection import Prepare, open_connection
from host_bindings.storage.failures import StorageFailure, closed
from host_bindings.storage.immediate import ImmediateLane, NotNow
from host_bindings.storage.lanes import Job, ReadLane, WriteLane
from host_bindings.storage.threads import StorageThreads

T = TypeVar("T")

Operation = Callable[[apsw.Connection], T]
"""Works on the connection of a lane, on a thread. It must leave no statement unfinished, that is read all rows."""

_LOG = logging.getLogger("cloister.storage")


@dataclass(slots=True, frozen=True)
class _Ready(Generic[T]):
    """An awaitable that does not wait."""

    value: T

    def __await__(self) -> Generator[Any, None, T]:
        return self.value
        yield


class Database:
    """A store's database. Nothing is opened before the first operation.

    `prepare` makes or changes the schema if the file's `user_version` is not `version`; every other process that uses
    the file must agree on it.
    """

    def __init__(self, path: Path, prepare: Prepare, version: int) -> None:
        self._path = path
        self._prepare = prepare
        self._version = version
        self._opening = threading.Lock()
        self._shared: StorageThreads | None = None
        self._reader: ReadLane | None = None
        self._writer: WriteLane | None = None
        self._immediate: ImmediateLane | None = None
        self._closed = False

    def read(self, operation: Operation[T], *, at_once: Operation[T] | None = None) -> Awaitable[T]:
        """Runs `operation` off the event loop on a snapshot that has every write acknowledged before.

        `at_once` does the same with a bounded amount of work and without waiting for anything but memory, or raises
        `NotNow`: it is tried first, on the event loop. Raises `StorageFailure`, and what the operations raise.
        """
        if at_once is not None and self._immediate is not None:
            try:
                return _Ready(self._immediate.read(at_once))
            except NotNow:
                pass
        if self._reader is None:
            self._start()
        assert self._reader is not None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._reader.submit(Job(operation, loop, future))
        return future

    def write(
        self, operation: Operation[T], *, size_bytes: int = 0, single_statement: bool = False
    ) -> asyncio.Future[T]:
        """Runs `operation` off the event loop in a transaction; the result comes when it is on disk.

        An operation that raises is rolled back alone. `single_statement` promises that it consists of one SQL
        statement, which SQLite rolls back by itself. Raises `StorageFailure`, and what the operation raises. If the
        caller is cancelled, the operation may or may not be done.
        """
        if self._writer is None:
            self._start()
        assert self._writer is not None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._writer.submit(Job(operation, loop, future, size_bytes, single_statement))
        return future

    def read_soon(self, operation: Operation[None]) -> None:
        """Like `read`, for housekeeping: nobody waits, errors go to the log. May be called on any thread."""
        self._submit_soon(False, operation)

    def write_soon(self, operation: Operation[None]) -> None:
        """Like `write`, for housekeeping."""
        self._submit_soon(True, operation)

    async def close(self) -> None:
        """Waits for what has been submitted and closes the file. Later operations raise `StorageFailure`."""
        if self._closed:
            return
        self._closed = True
        if self._shared is None:
            return
        assert self._reader is not None and self._writer is not None and self._immediate is not None
        await self._immediate.close()
        # Reads first: their housekeeping may still submit writes.
        for lane in (self._reader, self._writer):
            await asyncio.wrap_future(lane.close())
        await threads.release()

    def _submit_soon(self, write: bool, operation: Operation[None]) -> None:
        try:
            if self._reader is None:
                self._start()
            lane = self._writer if write else self._reader
            assert lane is not None
            lane.submit(Job(operation))
        except StorageFailure as failure:
            _LOG.debug("housekeeping left out: %s", failure.message)

    def _start(self) -> None:
        with self._opening:
            if self._closed:
                raise closed()
            if self._shared is None:
                shared = threads.acquire()
                self._writer = WriteLane(self._path, self._open, shared.writers, shared.connections)
                self._reader = ReadLane(self._path, self._open, shared.readers, shared.connections)
                self._immediate = ImmediateLane(self._path, self._open_immediate, shared.readers, shared.connections)
                self._shared = shared

    def _open(self, read_only: bool) -> apsw.Connection:
        # One at a time, so that the two lanes do not wait for each other's locks on a new file.
        with self._opening:
            return open_connection(self._path, self._prepare, self._version, read_only=read_only)

    def _open_immediate(self, vfs: str) -> apsw.Connection:
        with self._opening:
            return open_connection(self._path, self._prepare, self._version, read_only=True, vfs=vfs)
