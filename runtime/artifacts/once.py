"""Work that several callers want at the same time is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Runs work by key. It goes on while anyone waits for it, and is cancelled when the last one gives up."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[T]] = {}
        self._waiting: dict[asyncio.Task[T], int] = {}

    def keys(self) -> list[str]:
        """What is being worked on."""
        return list(self._tasks)

    def waiting(self, key: str) -> int:
        """How many wait for what runs under this key."""
        task = self._tasks.get(key)
        return self._waiting.get(task, 0) if task is not None else 0

    async def run(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of what runs under this key; if nothing does, `work` is called at once and started."""
        task = self._tasks.get(key)
        if task is None or task.cancelling():
            task = self._start(key, work())
        self._waiting[task] = self._waiting.get(task, 0) + 1
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._waiting[task] == 1 and not task.done():
                task.cancel()
                await asyncio.wait([task])
            raise
        finally:
            self._waiting[task] -= 1
            if not self._waiting[task]:
                del self._waiting[task]

    async def close(self) -> None:
        """Cancels what runs, and waits for its end."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _start(self, key: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._tasks[key] = asyncio.create_task(work)

        def ended(task: asyncio.Task[T]) -> None:
            if self._tasks.get(key) is task:
                del self._tasks[key]

        task.add_done_callback(ended)
        return task
