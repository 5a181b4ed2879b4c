"""Whose turn it is: guests that have used up their time-slice wait here and go on one by one.

Turns are shared among tenants, not among calls: a tenant with a hundred busy calls gets as many turns as one with a
single call. In each round of the event loop turns are given for the length of a time-slice, so sockets are served soon.

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
"""How long a tenant's calls may run in a round of the event loop without a turn, and how long turns are given."""


class Resumable(Protocol):
    @property
    def tenant(self) -> object:
        """What turns are shared among."""

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
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._scheduled = False
        until_ns = perf_counter_ns() + ROUND_NS
        try:
            while self._queues:
                tenant, queue = self._queues.popitem(last=False)
                call = queue.popleft()
                if queue:
                    self._queues[tenant] = queue
                call.resume()
                if perf_counter_ns() >= until_ns:
                    break
        finally:
            if self._queues:
                self._schedule()
