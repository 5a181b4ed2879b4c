"""The parent's end of one SQL child process: start, talk, kill, bury."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

import host_bindings
from host_bindings.d1.limits import MIB, SqlLimits
from host_bindings.d1.scheduling import Pending, Queue
from host_bindings.d1.wire import EXECUTING, LENGTH_BYTES, STATUS_BYTES, Answer, Answers, Setup, Status, Work, frame

_ROOT = str(Path(host_bindings.__file__).parent.parent)
_MAIN = "import sys; sys.path.append(sys.argv[1]); from host_bindings.d1.process import main; main()"
# What a dynamically linked Python may need to start at all. Nothing else is inherited.
_ENVIRONMENT = ("LD_LIBRARY_PATH", "SYSTEMROOT")

_EXIT_GRACE_S = 5.0

_decode_answers = msgspec.msgpack.Decoder(Answers).decode


class Job:
    """Work on its way, and how far it has come. `queue` and `group` are the sender's: whose work this is."""

    __slots__ = ("answered", "group", "number", "queue", "started_at", "work")

    def __init__(self, work: Work, queue: Queue, group: list[Pending]) -> None:
        self.work = work
        self.queue = queue
        self.group = group
        self.started_at = time.monotonic()
        self.answered = 0
        self.number = 0


class Listener(Protocol):
    """What a child tells of."""

    def answered(self, job: Job, answer: Answer, last_row_id: int) -> None:
        """The next request of `job` has its answer."""

    def finished(self, child: Child, job: Job) -> None:
        """All have."""

    def lost(self, child: Child) -> None:
        """The connection has ended. Call `end`; `jobs` are those that were not finished."""


class Child(asyncio.Protocol):
    """One process. Jobs are done in the order of `send`; `busy_since` is when the present one last moved."""

    def __init__(self, limits: SqlLimits, listener: Listener) -> None:
        self._listener = listener
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer = bytearray()
        self._frame_bytes_max = limits.result_bytes + limits.group_bytes + MIB
        self._jobs_sent = 0
        self._socket: socket.socket
        self._transport: asyncio.Transport
        self._process: subprocess.Popen[bytes]
        self._status: Status
        self._last_status: tuple[int, int, int] | None = None
        self.jobs: deque[Job] = deque()
        self.busy_since = 0.0
        self.over_deadline = False
        """The parent has killed it for what it was doing."""

    @classmethod
    async def start(cls, limits: SqlLimits, directory: Path, listener: Listener) -> Child:
        """All databases lie below `directory`: the process can reach no other file.

        Raises `OSError` or `TimeoutError` if there is no process at the end.
        """
        child = cls(limits, listener)
        ours, theirs = socket.socketpair()
        with theirs, _shared_page() as page:
            try:
                child._status = Status(page.fileno())
                child._process = await asyncio.to_thread(_spawn, directory, theirs.fileno(), page.fileno())
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        child._socket = ours
        loop = asyncio.get_running_loop()
        child._transport, _ = await loop.create_unix_connection(lambda: child, sock=ours)
        try:
            child._transport.write(frame(Setup(limits, str(directory))))
            await asyncio.wait_for(child._ready, limits.start_ms / 1000)
        except BaseException:
            child.kill()
            await child.end()
            raise
        return child

    @property
    def process_id(self) -> int:
        return self._process.pid

    def send(self, job: Job) -> None:
        self._jobs_sent += 1
        job.number = self._jobs_sent
        if not self.jobs:
            self.busy_since = time.monotonic()
        self.jobs.append(job)
        self._write(frame(job.work))

    def _write(self, data: bytes) -> None:
        """At once if there is room, so that the process begins while this one is still busy with the caller: an event
        loop sends what it is given when it has done everything else."""
        if not self._transport.get_write_buffer_size():
            with contextlib.suppress(OSError):
                data = data[self._socket.send(data) :]
        if data:
            self._transport.write(data)

    def progress(self) -> tuple[int, int]:
        """Of the first job: the position of the request that runs, -1 if none does yet; EXECUTING or COMMITTING.
        Still to be had after `end`."""
        number, position, phase = self._last_status or self._status.read()
        return (position, phase) if self.jobs and number == self.jobs[0].number else (-1, EXECUTING)

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    def disconnect(self) -> None:
        """The process ends when it has done what it is doing."""
        self._transport.abort()

    def kill(self) -> None:
        """The connection ends in consequence."""
        self._process.kill()

    async def end(self) -> None:
        """Lets the process end, waits until it has, and frees what it held here. Only after that is it certain that
        it writes to no file."""
        self._transport.abort()
        try:
            await asyncio.to_thread(self._process.wait, _EXIT_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self._last_status = self._status.read()
        self._status.close()

    # asyncio.Protocol

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ready.done():
            self._ready.set_exception(OSError("The SQL process ended while it started."))
        else:
            self._listener.lost(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= LENGTH_BYTES:
            length = int.from_bytes(self._buffer[:LENGTH_BYTES], "little")
            if length > self._frame_bytes_max:
                return self._distrust()
            end = LENGTH_BYTES + length
            if len(self._buffer) < end:
                return
            content = bytes(memoryview(self._buffer)[LENGTH_BYTES:end])
            del self._buffer[:end]
            try:
                self._take(_decode_answers(content))
            except (msgspec.DecodeError, UnicodeDecodeError):
                return self._distrust()

    def _take(self, message: Answers) -> None:
        if not self._ready.done():
            self._ready.set_result(None)
            return
        self.busy_since = time.monotonic()
        for answer in message.answers:
            if not self.jobs:
                return self._distrust()
            job = self.jobs[0]
            self._listener.answered(job, answer, message.last_row_id)
            job.answered += 1
            if job.answered == len(job.work.requests):
                self.jobs.popleft()
                self._listener.finished(self, job)

    def _distrust(self) -> None:
        """It says what this side cannot have asked for: SQLite itself may have been turned against us."""
        self._buffer.clear()
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        self._transport.abort()


def _shared_page() -> BinaryIO:
    if sys.platform == "linux":
        page: BinaryIO = os.fdopen(os.memfd_create("sql-status"), "r+b")
    else:
        page = tempfile.TemporaryFile()  # noqa: SIM115
    page.truncate(STATUS_BYTES)
    return page


def _spawn(directory: Path, channel: int, status: int) -> subprocess.Popen[bytes]:
    # What is not there yet cannot be left open to the child.
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-I", "-X", "utf8", "-c", _MAIN, _ROOT, str(channel), str(status)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        pass_fds=(channel, status),
        process_group=0,
    )
