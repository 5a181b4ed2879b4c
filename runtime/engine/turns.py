"""Whose turn it is: guests that have used up their time-slice wait here and go on one by one.

Turns are shared among tenants, not among calls: a tenant with a hundred busy calls gets as many turns as one with a
single call. One turn is given in each round of the event loop, so sockets are served between any two slices.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Protocol


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
        if not self._queues:
            return
        tenant, queue = self._queues.popitem(last=False)
        call = queue.popleft()
        if queue:
            self._queues[tenant] = queue
        try:
            call.resume()
        finally:
            if self._queues:
                self._schedule()
