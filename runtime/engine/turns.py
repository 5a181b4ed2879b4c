"""Whose turn it is: guests that have used up their time-slice wait here and go on one by one.

Turns are shared among tenants, not among calls: a tenant with a hundred busy calls gets as many turns as one with a
single call. A round of the event loop has one turn, or several short ones, and turns come last in it: what sockets have
brought meanwhile goes first.

A call that has just come in, or whose host call has been answered, runs at once as long as its tenant has not had a
time-slice in this round of the event loop. Beyond that it waits its turn, too: a hundred calls of one tenant, each of
which computes a little and then waits for a moment, would hold everybody up as well.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from time import perf_counter_ns
from typing import Protocol

ROUND_NS = 2_000_000
"""How long a tenant's calls may run in a round of the event loop without a turn, and short calls take turns. Less
costs throughput where callers are many: with half of it 32 callers of short methods waited twice as long."""

TURNS_NS = 500_000
"""For how long turns are begun in a round after one of a call that uses up its time-slices: that is the only one."""


class Resumable(Protocol):
    @property
    def tenant(self) -> object:
        """What turns are shared among."""

    @property
    def used_up(self) -> bool:
        """Whether it has used up a time-slice."""

    def resume(self) -> None:
        """Runs for a time-slice."""


class Turns:
    """Round robin over tenants, first come first served within one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queues: OrderedDict[object, deque[Resumable]] = OrderedDict()
        self._scheduled = False
        self._spent_ns: dict[object, int] = {}
        """By tenant: for how long its calls have run in this round of the event loop."""

    def may_run(self, tenant: object) -> bool:
        """Whether a call of this tenant may run at once. If not, `add` it."""
        return self._spent_ns.get(tenant, 0) < ROUND_NS and tenant not in self._queues

    def book(self, tenant: object, elapsed_ns: int) -> None:
        """A call of this tenant has run."""
        spent_ns = self._spent_ns
        if not spent_ns:
            self._loop.call_soon(spent_ns.clear)
        spent_ns[tenant] = spent_ns.get(tenant, 0) + elapsed_ns

    def add(self, call: Resumable) -> None:
        """Queues a call for its next slice."""
        queue = self._queues.get(call.tenant)
        if queue is None:
            queue = self._queues[call.tenant] = deque()
        queue.append(call)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._soon)

    def _soon(self) -> None:
        # Not here: requests that the loop has read after this was scheduled are answered later in this round.
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._scheduled = False
        started_ns = perf_counter_ns()
        try:
            while self._queues:
                tenant, queue = self._queues.popitem(last=False)
                call = queue.popleft()
                if queue:
                    self._queues[tenant] = queue
                call.resume()
                if perf_counter_ns() - started_ns >= (TURNS_NS if call.used_up else ROUND_NS):
                    break
        finally:
            if self._queues:
                self._schedule()
