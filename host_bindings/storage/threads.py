"""The threads and the open connections that all stores of this process share.

There may be thousands of stores, so none has a thread of its own and only the ones used last have open files. The
threads begin with the first store in use and end with the last one.
"""

from __future__ import annotations

import asyncio
import resource
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

T = TypeVar("T")

READERS = 4
WRITERS = 8
"""Writers spend their time waiting for the disk; each serves one database at a time."""
COPIERS = 8
"""For the bytes of objects."""

_CONNECTIONS_MIN = 16
_CONNECTIONS_MAX = 512
_DESCRIPTORS_PER_CONNECTION = 8
"""A connection takes two or three; the rest is left to bodies and sockets."""


class Threads:
    """At most `size` threads, started as they are needed, that run jobs in the order of their coming."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._stopped = False
        self._threads: list[threading.Thread] = []

    def submit(self, job: Callable[[], None]) -> None:
        """Runs `job`, which must not raise, on one of the threads."""
        self._jobs.put(job)
        if self._stopped:
            # Someone was in the middle of an operation when the last store was closed.
            threading.Thread(target=self._work_off, name=f"storage-{self._name}-late", daemon=True).start()
        elif len(self._threads) < self._size:
            self._grow()

    def run(self, operation: Callable[[], T]) -> asyncio.Future[T]:
        """The result of `operation`, run on one of the threads. Once begun it runs to its end, cancelled or not."""
        done: Future[T] = Future()

        def job() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                result = operation()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(result)

        self.submit(job)
        return asyncio.wrap_future(done)

    def stop(self) -> None:
        """Ends the threads when they have done what was submitted before. Blocks until then."""
        with self._lock:
            self._stopped = True
            for _ in self._threads:
                self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._work_off()

    def _work_off(self) -> None:
        ends = 0
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                ends += 1
            else:
                job()
        # Threads that are still to be ended wait for these.
        for _ in range(ends):
            self._jobs.put(None)

    def _grow(self) -> None:
        with self._lock:
            if self._waiting >= self._jobs.qsize() or len(self._threads) >= self._size:
                return
            # Daemons: what is not acknowledged need not keep the process from ending.
            thread = threading.Thread(target=self._work, name=f"storage-{self._name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._waiting += 1
            job = self._jobs.get()
            with self._lock:
                self._waiting -= 1
            if job is None:
                return
            job()
            # Else the job's values would live until the next one comes.
            del job


class Closable(Protocol):
    """A user of a connection that can be asked, from any thread, to close it when it is idle."""

    def release(self) -> None: ...


class OpenConnections:
    """Keeps the number of open connections bounded: the one used longest ago is closed."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._users: OrderedDict[Closable, None] = OrderedDict()

    def used(self, user: Closable) -> None:
        """`user` has an open connection and uses it now."""
        with self._lock:
            self._users[user] = None
            self._users.move_to_end(user)
            victim = self._users.popitem(last=False)[0] if len(self._users) > self.limit else None
        if victim is not None:
            victim.release()

    def closed(self, user: Closable) -> None:
        with self._lock:
            self._users.pop(user, None)

    def __len__(self) -> int:
        return len(self._users)


class StorageThreads:
    """One process' readers, writers, copiers and open connections. Got by `acquire`, given back by `release`."""

    def __init__(self) -> None:
        self.readers = Threads("reader", READERS)
        self.writers = Threads("writer", WRITERS)
        self.copiers = Threads("copier", COPIERS)
        self.connections = OpenConnections(_connections_max())

    def stop(self) -> None:
        for threads in (self.copiers, self.readers, self.writers):
            threads.stop()


_lock = threading.Lock()
_current: StorageThreads | None = None
_users = 0


def acquire() -> StorageThreads:
    """The process' threads. Each call needs one of `release`."""
    global _current, _users
    with _lock:
        if _current is None:
            _current = StorageThreads()
        _users += 1
        return _current


async def release() -> None:
    """Gives back what `acquire` gave. The last one returns when the threads have ended."""
    global _current, _users
    with _lock:
        _users -= 1
        if _users:
            return
        ended, _current = _current, None
    if ended is not None:
        await asyncio.to_thread(ended.stop)


def _connections_max() -> int:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return _CONNECTIONS_MAX
    return min(max(descriptors // _DESCRIPTORS_PER_CONNECTION, _CONNECTIONS_MIN), _CONNECTIONS_MAX)
