"""Takes what the meters have counted to the ledger, once a second, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import apsw

from runtime.telemetry.ledger import Gauges, Ledger
from runtime.telemetry.meters import Counts, Meters, TenantKey

INTERVAL_S = 1.0

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Recorder:
    """Belongs to one event loop."""

    def __init__(self, path: Path, meters: Meters) -> None:
        self._path = path
        self._meters = meters
        self.gauges: Callable[[], Gauges] = Gauges
        """Gives the process's figures of now."""
        self._kept: dict[TenantKey, Counts] = {}
        """What could not be written: the next attempt has it too."""
        self._failing = False

    async def open(self) -> None:
        """Raises `apsw.Error` or `OSError` if the ledger cannot be opened."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._ledger = await self.run(lambda: Ledger(self._path))
        self._task = asyncio.create_task(self._record())

    async def close(self) -> None:
        """Writes what is left."""
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self._flush()
        await self.run(self._ledger.close)
        self._thread.shutdown()

    async def read(self, question: Callable[[Ledger], T]) -> T:
        """What the ledger answers, this process's latest figures included. Raises `apsw.Error`."""
        await self._flush()
        return await self.run(lambda: question(self._ledger))

    async def run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def _record(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self._flush()

    async def _flush(self) -> None:
        for key, counts in self._meters.take().items():
            self._kept[key] = _sum(self._kept[key], counts) if key in self._kept else counts
        taken, self._kept = self._kept, {}
        gauges = self.gauges()
        try:
            # A flush that has begun is finished, so that nothing counts twice.
            await asyncio.shield(self.run(lambda: self._ledger.add(taken, gauges, os.getpid())))
            self._failing = False
        except apsw.Error as error:
            if not self._failing:
                _log.error("Usage cannot be written at present, and is kept in memory: %s", error)
            self._failing = True
            for key, counts in taken.items():
                self._kept[key] = _sum(counts, self._kept[key]) if key in self._kept else counts


def _sum(one: Counts, other: Counts) -> Counts:
    both = Counts()
    for name in ("requests", "wall_ms", "bytes_in", "bytes_out", "calls", "cpu_ns", "host_calls", "cold_starts"):
        setattr(both, name, getattr(one, name) + getattr(other, name))
    both.wall_buckets = [a + b for a, b in zip(one.wall_buckets, other.wall_buckets, strict=True)]
    for name in ("statuses", "outcomes", "limits"):
        first, second = getattr(one, name), getattr(other, name)
        setattr(both, name, {key: first.get(key, 0) + second.get(key, 0) for key in first | second})
    return both
