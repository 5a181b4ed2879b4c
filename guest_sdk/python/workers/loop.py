"""The guest's event loop. Calls of the host are synchronous (the host suspends the guest), so most coroutines run to
their end without ever waiting for the loop; what does wait (sleep, gather, timeout) is served by a small loop whose
time passes in the host's timers.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import events, tasks
from collections.abc import Coroutine
from typing import Any

_ROUNDS_MAX = 100
"""How often a task that does not want to end is told to."""


def _nothing() -> None:
    pass


class _Clock:
    """What the base loop asks of a selector: to wait. There are no sockets to watch."""

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("The worker waits for something that can never happen.")
        if timeout > 0:
            time.sleep(timeout)
        return []

    def close(self) -> None:
        pass


class GuestLoop(asyncio.BaseEventLoop):
    """asyncio's loop without sockets, threads or signals. It counts as running all the time."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Clock()
        self._spawned = False
        """Whether the call that runs has made tasks of its own."""

    def is_running(self) -> bool:
        return True

    def _process_events(self, _events: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return self.call_soon(callback, *args, context=context)

    def create_task(self, coro: Any, **options: Any) -> Any:
        self._spawned = True
        return super().create_task(coro, **options)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Calls the function here and now: a worker has no threads."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The coroutine's result. Costs about a microsecond if it never waits."""
        if events._get_running_loop() is not self:
            events._set_running_loop(self)
        task = asyncio.Task(coroutine, loop=self, eager_start=True)  # type: ignore[call-arg]
        try:
            while not task.done():
                self._run_once()  # type: ignore[attr-defined]
            return task.result()
        finally:
            if self._spawned or self._ready or self._scheduled or not task.done():  # type: ignore[attr-defined]
                self._end_call()

    def run_nested(self, awaitable: Any) -> Any:
        """The result of an awaitable, from synchronous code inside of a running task."""
        running = tasks._swap_current_task(self, None)  # type: ignore[attr-defined]
        try:
            future = asyncio.ensure_future(awaitable, loop=self)
            while not future.done():
                self._run_once()  # type: ignore[attr-defined]
            return future.result()
        finally:
            tasks._swap_current_task(self, running)  # type: ignore[attr-defined]

    def _end_call(self) -> None:
        """Ends what the call has left running: it must not go on in the next call, with this one's handles."""
        for _ in range(_ROUNDS_MAX):
            left = asyncio.all_tasks(self)
            if not left:
                break
            for task in left:
                task.cancel()
            self.call_soon(_nothing)
            self._run_once()  # type: ignore[attr-defined]
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        self._timer_cancelled_count = 0
        self._spawned = False


LOOP: GuestLoop | None = None


def guest_loop() -> GuestLoop:
    global LOOP
    if LOOP is None:
        LOOP = GuestLoop()
        LOOP.set_exception_handler(_report)
    return LOOP


def _report(_loop: Any, context: dict[str, Any]) -> None:
    import logging

    logging.getLogger("asyncio").error(context.get("message"), exc_info=context.get("exception"))


def run_nested(awaitable: Any) -> Any:
    """The result of an awaitable, from synchronous code inside of a running task."""
    return guest_loop().run_nested(awaitable)
