"""Whose request runs next. No processes and no SQL in here.

A database runs one group of requests at a time. Databases are gathered by owner (a tenant), and turns are shared fairly
among owners, by the time that each has used. Owners whose requests have lately been slow never get the last process:
one is always left for those whose requests are quick. What the host itself asks of a database may take minutes: an
owner has one such request running at a time.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from host_bindings.allowance import Account
from host_bindings.d1.errors import D1Error
from host_bindings.d1.limits import SqlLimits
from host_bindings.d1.wire import ALONE, Kind

SLOW_MS = 25.0
"""Above this mean an owner's requests count as slow."""

_NEWEST_WEIGHT = 0.3


@dataclass(slots=True, eq=False)
class Pending:
    """A request that waits or runs. Its future gets the JSON text, or the error that `refusal` makes of a message and
    the code of the limit that was hit."""

    kind: Kind
    body: str
    size: int
    """The bytes of `body` as UTF-8."""
    future: asyncio.Future[str]
    refusal: Callable[[str, str], Exception] = D1Error
    queued_at: float = field(default_factory=time.monotonic)
    attempts: int = 0
    """How often it has been sent to a process that then died."""

    def fail(self, message: str, code: str = "") -> None:
        self.refuse(f"D1_ERROR: {message}", code)

    def refuse(self, text: str, code: str) -> None:
        """As `fail`, with the whole text."""
        if not self.future.done():
            self.future.set_exception(self.refusal(text, code))


@dataclass(slots=True, eq=False)
class Owner:
    name: str
    account: Account = field(default_factory=Account)
    used_s: float = 0.0
    """Time used, moved up to that of the others after a pause: what was not used then is not saved up."""
    mean_ms: float = 0.0
    running: int = 0
    maintaining: bool = False
    """One of the requests in `ALONE` is running."""
    waiting_bytes: int = 0
    databases: int = 0
    ready: deque[Queue] = field(default_factory=deque)

    def book(self, elapsed_s: float) -> None:
        self.used_s += elapsed_s
        self.mean_ms += _NEWEST_WEIGHT * (elapsed_s * 1000 - self.mean_ms)

    @property
    def slow(self) -> bool:
        return self.mean_ms > SLOW_MS

    def next_ready(self) -> Queue | None:
        """The first of its databases that may have a turn."""
        return next((queue for queue in self.ready if not (self.maintaining and queue.maintains)), None)


@dataclass(slots=True, eq=False)
class Queue:
    """The requests of one database."""

    directory: str
    owner: Owner
    waiting: deque[Pending] = field(default_factory=deque)
    running: bool = False
    scheduled: bool = False
    closed: bool = False
    last_row_id: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def maintains(self) -> bool:
        """What is next is one of the requests in `ALONE`."""
        return bool(self.waiting) and self.waiting[0].kind in ALONE

    def take_group(self, limits: SqlLimits) -> list[Pending]:
        """What may run together now, in order. Empty if all who asked have gone."""
        group: list[Pending] = []
        size = 0
        while self.waiting and len(group) < limits.group_requests:
            first = self.waiting[0]
            if first.future.done():
                self.waiting.popleft()
                continue
            # A request that was in a process that died goes alone: it takes no one with it then.
            alone = first.attempts > 0 or first.kind in ALONE
            if group and (size + first.size > limits.group_bytes or alone):
                break
            size += first.size
            group.append(self.waiting.popleft())
            if alone:
                break
        return group


class Schedule:
    """The owners that have something to run, the one first that has used least."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Owner]] = []
        self._count = itertools.count()
        self._now_s = 0.0

    def __bool__(self) -> bool:
        return bool(self._heap)

    def add(self, queue: Queue) -> None:
        """`queue` has something waiting and is not running."""
        queue.scheduled = True
        owner = queue.owner
        if not owner.ready:
            owner.used_s = max(owner.used_s, self._now_s)
            self._push(owner)
        owner.ready.append(queue)

    def take(self, processes: int, slow_running: int, slow_max: int | None = None) -> Queue | None:
        """The queue to run next, None if none may. `processes` is how many there can be, `slow_max` how many may run
        requests of slow owners now."""
        shared = max(1, processes - 1)
        slow_max = shared if slow_max is None else slow_max
        held_back: list[Owner] = []
        found: Queue | None = None
        while self._heap and found is None:
            owner = heapq.heappop(self._heap)[2]
            ready = owner.next_ready()
            if ready is None or owner.running >= shared or (owner.slow and slow_running >= slow_max):
                held_back.append(owner)
                continue
            self._now_s = max(self._now_s, owner.used_s)
            found = ready
            owner.ready.remove(found)
            found.scheduled = False
            if owner.ready:
                self._push(owner)
        for owner in held_back:
            self._push(owner)
        return found

    def queues(self) -> list[Queue]:
        return [queue for _, _, owner in self._heap for queue in owner.ready]

    def _push(self, owner: Owner) -> None:
        heapq.heappush(self._heap, (owner.used_s, next(self._count), owner))
