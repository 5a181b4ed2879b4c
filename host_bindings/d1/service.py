"""The SQL service: a small pool of child processes in which tenants' SQL runs, and their requests' way there and back.

At any moment at most one process works on a database, mostly the one that did before and so has it open. A process
works on one database at a time, so what a request does to its process (a kill at the deadline, a crash, memory used
up) is no one else's trouble.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

from host_bindings.allowance import SQL_TIME, STATUS, Account, Allowance
from host_bindings.d1 import errors
from host_bindings.d1.child import Child, Job
from host_bindings.d1.errors import D1Error
from host_bindings.d1.limits import SqlLimits
from host_bindings.d1.scheduling import Owner, Pending, Queue, Schedule
from host_bindings.d1.wire import ALONE, COMMITTING, MAINTAINING, Allowed, Answer, Kind, Request, Work

_log = logging.getLogger(__name__)

_TICK_S = 0.01
_LATE_TICK_S = 0.1
_QUEUE_CHECK_S = 0.25
_SLOW_RUN_S = 0.05
_START_PAUSE_S = 1.0
_ATTEMPTS_MAX = 3
_CHILDREN_MIN = 2
"""So many processes are kept once there has been something to do."""


class SqlService:
    """Runs requests for any number of databases in at most `processes` child processes, started when needed.

    With one process a slow request delays all databases; with more, only those of its owner (see `scheduling`).
    Belongs to one event loop. `close` it.
    """

    def __init__(self, directory: Path, processes: int = 4, limits: SqlLimits | None = None) -> None:
        """All databases lie below `directory`. Raises ValueError for less than one process."""
        if processes < 1:
            raise ValueError("There must be at least one SQL process.")
        self.limits = limits or SqlLimits()
        self._directory = directory
        self._everything = Allowance(
            d1_bytes_max=self.limits.database_bytes, sql_ms=self.limits.request_ms, sql_rows_max=self.limits.result_rows
        )
        self._processes = processes
        self._owners: dict[str, Owner] = {}
        self._schedule = Schedule()
        self._children: set[Child] = set()
        self._idle: list[Child] = []
        self._holders: dict[Queue, list[Child]] = {}
        self._starting = 0
        self._start_not_before = 0.0
        self._waiting_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._queues_checked_at = 0.0
        self._closed = False

    @property
    def process_ids(self) -> list[int]:
        """Of the processes that exist now."""
        return [child.process_id for child in self._children]

    # Databases

    def open(self, directory: Path, owner: str, account: Account | None = None) -> Queue:
        """The queue of a database. Touches no disk. A directory has one queue at a time."""
        found = self._owners.get(owner)
        if found is None:
            found = self._owners[owner] = Owner(owner, account or Account(self._everything))
        found.databases += 1
        return Queue(str(directory), found)

    def submit(
        self, queue: Queue, kind: Kind, body: str, refusal: Callable[[str, str], Exception] = D1Error
    ) -> asyncio.Future[str]:
        """Runs a request, whose `body` is as `wire.Request` says; the answer's JSON text, when it is there.

        The future fails with what `refusal` makes of a message and a code. Raises `D1Error` for what is refused now.
        No task is involved, so that a short statement costs little more than the way to its process and back.
        """
        try:
            size = len(body) if body.isascii() else len(body.encode())
        except UnicodeEncodeError:
            raise D1Error("D1_ERROR: The text holds half of a surrogate pair, which is no character.") from None
        self._check_room(queue, size)
        owner = queue.owner
        owner.waiting_bytes += size
        self._waiting_bytes += size

        def settled(_: asyncio.Future[str]) -> None:
            owner.waiting_bytes -= size
            self._waiting_bytes -= size

        pending = Pending(kind, body, size, asyncio.get_running_loop().create_future(), refusal)
        pending.future.add_done_callback(settled)
        queue.waiting.append(pending)
        if not queue.running and not queue.scheduled:
            self._schedule.add(queue)
            self._dispatch()
        return pending.future

    def _check_room(self, queue: Queue, size: int) -> None:
        limits = self.limits
        if self._closed or queue.closed:
            raise D1Error(f"D1_ERROR: {errors.CLOSED}")
        if size > limits.request_bytes:
            raise D1Error(f"D1_ERROR: The request is larger than {limits.request_bytes} bytes.")
        if (
            len(queue.waiting) >= limits.queue_requests
            or queue.owner.waiting_bytes + size > limits.queue_bytes
            or self._waiting_bytes + size > limits.queue_bytes_total
        ):
            raise D1Error(f"D1_ERROR: {errors.QUEUE_FULL}")

    async def close_queue(self, queue: Queue) -> None:
        """Finishes what has been asked for, refuses what comes later, and closes the file in every process."""
        if queue.closed:
            return
        queue.closed = True
        while queue.running or queue.waiting:
            queue.idle.clear()
            await queue.idle.wait()
        closings = []
        for child in self._holders.pop(queue, []):
            if child in self._children:
                closing = Pending("close", "", 0, asyncio.get_running_loop().create_future())
                if child in self._idle:
                    self._idle.remove(child)
                self._send(child, queue, [closing])
                closings.append(closing.future)
        await asyncio.gather(*closings, return_exceptions=True)
        queue.owner.databases -= 1
        if not queue.owner.databases:
            self._owners.pop(queue.owner.name, None)

    async def close(self) -> None:
        """Ends the processes and waits until they have. Requests that are not answered by now fail."""
        self._closed = True
        if self._ticker is not None:
            self._ticker.cancel()
        self._fail_all(errors.CLOSED)
        while self._children or self._tasks:
            for child in self._children:
                child.disconnect()
            if self._tasks:
                await asyncio.wait(self._tasks)
            else:
                await asyncio.sleep(0)

    # From queues to processes

    def _dispatch(self) -> None:
        """Gives idle processes something to do."""
        schedule = self._schedule
        if self._closed:
            return self._fail_all(errors.CLOSED)
        while schedule and self._idle:
            queue = schedule.take(self._processes, self._slow_running(), self._slow_max())
            if queue is None:
                break
            group = queue.take_group(self.limits)
            if not group:
                queue.idle.set()
                continue
            queue.running = True
            queue.owner.running += 1
            queue.owner.maintaining |= group[0].kind in ALONE
            self._send(self._take_idle(queue), queue, group)
        if not self._starting and ((schedule and not self._children) or self._wants_spare()):
            self._start_child()
        if self._ticker is None and (schedule or len(self._idle) < len(self._children)):
            self._tick_later()

    def _wants_spare(self) -> bool:
        """A process that was killed is replaced before it is missed: the others may be busy with slow requests."""
        return self._owners != {} and len(self._children) < min(_CHILDREN_MIN, self._processes)

    def _slow_max(self) -> int:
        """How many processes may run slow requests: of those that there are, one is left for quick ones."""
        if self._processes == 1:
            return 1
        return min(self._processes, len(self._children)) - 1

    def _slow_running(self) -> int:
        before = time.monotonic() - _SLOW_RUN_S
        return sum(
            1
            for child in self._children
            if child.jobs and (child.jobs[0].queue.owner.slow or child.jobs[0].started_at < before)
        )

    def _take_idle(self, queue: Queue) -> Child:
        """The idle process that used the database last, or the one that worked last."""
        holders = self._holders.setdefault(queue, [])
        if holders and holders[-1] in self._idle:
            self._idle.remove(holders[-1])
            return holders[-1]
        child = self._idle.pop()
        holders[:] = [holder for holder in holders if holder in self._children and holder is not child]
        holders.append(child)
        return child

    def _send(self, child: Child, queue: Queue, group: list[Pending]) -> None:
        requests = [Request(pending.kind, pending.body) for pending in group]
        given = queue.owner.account.allowance
        allowed = Allowed(given.sql_ms, given.sql_rows_max, given.d1_bytes_max)
        child.send(Job(Work(queue.directory, queue.last_row_id, requests, allowed), queue, group))

    # From processes back: child.Listener

    def answered(self, job: Job, answer: Answer, last_row_id: int) -> None:
        pending = job.group[job.answered]
        job.queue.last_row_id = last_row_id
        text = answer.text.decode()
        if answer.failed:
            pending.refuse(text, answer.code if answer.code in STATUS else "")
        elif not pending.future.done():
            pending.future.set_result(text)

    def finished(self, child: Child, job: Job) -> None:
        if not child.jobs:
            self._idle.append(child)
        self._release(job)
        self._dispatch()

    def lost(self, child: Child) -> None:
        if child in self._idle:
            self._idle.remove(child)
        self._in_background(self._bury(child))

    def _release(self, job: Job) -> None:
        """The job's queue may run again."""
        if job.work.requests[0].kind == "close":
            return
        queue = job.queue
        queue.running = False
        queue.owner.running -= 1
        if job.work.requests[0].kind in ALONE:
            queue.owner.maintaining = False
        queue.owner.book(time.monotonic() - job.started_at)
        if queue.waiting and not queue.scheduled:
            self._schedule.add(queue)
        elif not queue.waiting:
            queue.idle.set()

    async def _bury(self, child: Child) -> None:
        """Settles what a process that has ended left undone."""
        await child.end()
        self._children.discard(child)
        if not self._closed:
            cause = "was stopped at its deadline" if child.over_deadline else "ended unexpectedly"
            _log.warning("An SQL process %s (exit code %s)", cause, child.exit_code)
        while child.jobs:
            self._settle(child, child.jobs[0])
            self._release(child.jobs.popleft())
        self._dispatch()

    def _settle(self, child: Child, job: Job) -> None:
        """Only a commit that had begun leaves a doubt. Everything else was rolled back or had not started: the
        request that ran answers for it, the others are run again."""
        if job.work.requests[0].kind == "close":
            return job.group[0].future.set_result("")
        running, phase = child.progress()
        again: list[Pending] = []
        for position in range(job.answered, len(job.group)):
            pending = job.group[position]
            if phase == COMMITTING and position <= running:
                pending.fail(errors.CONNECTION_LOST)
            elif position == running:
                if child.over_deadline:
                    pending.fail(errors.CPU_LIMIT, SQL_TIME)
                else:
                    pending.fail(errors.CONNECTION_LOST)
            elif self._closed or pending.attempts + 1 >= _ATTEMPTS_MAX:
                pending.fail(errors.CLOSED if self._closed else errors.CONNECTION_LOST)
            else:
                pending.attempts += 1
                again.append(pending)
        job.queue.waiting.extendleft(reversed(again))

    # New processes

    def _start_child(self) -> None:
        if time.monotonic() >= self._start_not_before:
            self._starting += 1
            self._in_background(self._start())
        elif not self._children:
            self._fail_all(errors.CONNECTION_LOST)

    async def _start(self) -> None:
        try:
            child = await Child.start(self.limits, self._directory, self)
        except (OSError, TimeoutError) as error:
            _log.error("An SQL process could not be started: %s", error)
            self._start_not_before = time.monotonic() + _START_PAUSE_S
            if not self._children:
                self._fail_all(errors.CONNECTION_LOST)
            return
        finally:
            self._starting -= 1
        self._children.add(child)
        self._idle.append(child)
        if self._closed:
            child.disconnect()
        self._dispatch()

    # What time does

    def _tick_later(self) -> None:
        due = time.monotonic() + _TICK_S
        self._ticker = asyncio.get_running_loop().call_later(_TICK_S, self._tick, due)

    def _tick(self, due: float) -> None:
        """Runs while there is work."""
        self._ticker = None
        if self._closed:
            return
        now = time.monotonic()
        # After a pause of the whole event loop, answers that have arrived come first.
        if now - due < _LATE_TICK_S:
            self._kill_overdue(now)
        if now - self._queues_checked_at > _QUEUE_CHECK_S:
            self._queues_checked_at = now
            self._fail_overdue(now)
        if self._schedule and not self._idle and not self._starting and len(self._children) < self._processes:
            self._start_child()
        self._dispatch()

    def _kill_overdue(self, now: float) -> None:
        limits = self.limits
        common_ms = {COMMITTING: limits.commit_ms, MAINTAINING: limits.maintenance_ms}
        for child in self._children:
            if not child.jobs or child.over_deadline:
                continue
            executing_ms = min(limits.request_ms, child.jobs[0].work.allowed.request_ms) + limits.kill_grace_ms
            allowed_ms = common_ms.get(child.progress()[1], executing_ms)
            if now - child.busy_since > allowed_ms / 1000:
                child.over_deadline = True
                child.kill()

    def _fail_overdue(self, now: float) -> None:
        before = now - self.limits.queue_ms / 1000
        queues = self._schedule.queues() + [child.jobs[0].queue for child in self._children if child.jobs]
        for queue in queues:
            while queue.waiting and queue.waiting[0].queued_at < before:
                queue.waiting.popleft().fail(errors.QUEUE_TIMEOUT)

    def _fail_all(self, message: str) -> None:
        for queue in self._schedule.queues():
            self._fail_waiting(queue, message)

    def _fail_waiting(self, queue: Queue, message: str) -> None:
        while queue.waiting:
            queue.waiting.popleft().fail(message)
        queue.idle.set()

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
