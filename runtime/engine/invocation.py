"""One call of a worker: from its start on an instance to its answer, and on to the guest's end, which may be later."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from host_bindings.body import Body, Payload
from host_bindings.contract import Err, Failure
from runtime.engine.errors import (
    BindingLimitExceeded,
    CallerGone,
    EngineError,
    GuestException,
    GuestTrapped,
    HostFault,
    LimitExceeded,
    MemoryLimitExceeded,
    WallTimeExceeded,
)
from runtime.engine.layout import CodecError
from runtime.engine.native import NativeError

if TYPE_CHECKING:
    from runtime.engine.instance import Instance
    from runtime.engine.pool import WorkerPool


ABANDONED_S = 30.0
"""How long a call may go on that has work to do when its caller leaves; the time that Cloudflare gives `waitUntil`."""

UNFINISHED = (
    "What waitUntil() was given did not end within 30 seconds after the caller had gone, and has been cancelled."
)


class Invocation:
    """One call: from its start on an instance until the guest is done, which may be after the answer."""

    __slots__ = (
        "_abandoned",
        "_answer",
        "_failure",
        "_outlives",
        "_waiter",
        "arguments",
        "cold",
        "cpu_ns",
        "host_calls",
        "instance",
        "limits",
        "name",
        "outcome",
        "pool",
        "request_id",
        "started_ns",
    )

    def __init__(self, pool: WorkerPool, name: str, request_id: str) -> None:
        self.pool = pool
        self.name = name
        self.request_id = request_id
        self.limits = pool.limits
        self.cold = False
        """Whether an instance was made for this call."""
        self.cpu_ns = 0
        """CPU time until the call was settled."""
        self.host_calls = 0
        self.outcome = ""
        """What became of the call, in the words of `runtime.engine.errors`; empty until the guest is done."""
        self.arguments: tuple[Any, ...] = ()
        self.started_ns = perf_counter_ns()
        self.instance: Instance | None = None
        self._answer: Any = None
        self._failure: EngineError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._outlives = False
        """Whether it goes on for a while when its caller leaves."""
        self._abandoned = False

    def wait_until(self) -> None:
        """The guest has work to do whether or not the caller waits."""
        self._outlives = True

    def respond(self, status: int, headers: str, body: Payload) -> None:
        """The guest answers before it is done."""
        if self.name != "fetch":
            raise Failure("TypeError", "Only fetch can be answered early.")
        if self._answer is not None:
            raise Failure("TypeError", "This request has been answered already.")
        self._settle((status, headers, body))

    def abort(self, error: EngineError) -> None:
        """Ends the call, if it has not ended: its instance may be another call's by now."""
        if self.instance is not None and self in self.pool.engine.invocations:
            self.instance.abort(error)

    def abandon(self) -> None:
        """Whoever asked has gone. The call ends, or soon if it has work that is to go on."""
        deadlines = self.pool.engine.invocations
        if not self._outlives:
            self.abort(CallerGone())
        elif self in deadlines:
            self._abandoned = True
            deadlines[self] = min(deadlines[self], self.pool.engine.now + ABANDONED_S)

    def expire(self) -> None:
        """Ends the call, whose time is over."""
        if self._abandoned:
            self.pool.log(self.request_id, "warn", UNFINISHED)
            self.abort(CallerGone())
        else:
            self.abort(WallTimeExceeded(self.limits.wall_ms))

    @property
    def status(self) -> int:
        """Of the answer that a `fetch` has given; 0 without one."""
        return int(self._answer[0]) if self.name == "fetch" and self._answer is not None else 0

    @property
    def settled(self) -> bool:
        """Whether there is an outcome: `result` gives it."""
        return self._answer is not None or self._failure is not None

    def start(self, instance: Instance, arguments: tuple[Any, ...]) -> None:
        """Begins the call; often it is settled when this returns."""
        self.instance = instance
        self.arguments = arguments
        engine = self.pool.engine
        engine.invocations[self] = engine.now + self.limits.wall_ms / 1000
        try:
            instance.call(self.name, arguments, self, self._done)
        except (CodecError, NativeError) as error:
            engine.invocations.pop(self, None)
            self.pool.release(instance)
            self._failure = GuestTrapped(f"The worker cannot be called: {error}")

    async def wait(self) -> None:
        """Returns when the call is settled. If the caller is cancelled, the call is abandoned."""
        if not self.settled:
            self._waiter = self.pool.engine.loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                self.abandon()
                raise

    def result(self) -> Any:
        """What the export returned, or what was given to `respond`. Raises `EngineError`. Ask once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                # Its frames know this call, which must not know it: all of both would wait for the garbage collector.
                del failure
        return self._answer

    def _settle(self, answer: Any) -> None:
        self._answer = answer
        if self._abandoned and answer is not None:
            for part in (answer[2],) if self.name == "fetch" else answer[1]:
                if isinstance(part, Body):
                    part.close()
        if self.instance is not None:
            self.cpu_ns = self.instance.cpu_ns
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _done(self, instance: Instance, error: EngineError | None) -> None:
        """The guest is done, or its call was ended."""
        self.pool.engine.invocations.pop(self, None)
        if error is None and self._answer is None:
            error = self._take_result(instance)
        elif error is None:
            self._discard_result(instance)
        if error is not None:
            if self._answer is None:
                self._failure = error
                self._settle(None)
                if isinstance(error, LimitExceeded) and not isinstance(error, BindingLimitExceeded):
                    self.pool.log(self.request_id, "error", f"{error.message} [{error.code}]")
            elif not isinstance(error, CallerGone):
                self.pool.log(self.request_id, "error", f"After the answer: {error.message} [{error.code}]")
        self.host_calls = instance.host_calls
        self.outcome = "ok" if error is None else error.outcome
        instance.end_call()
        if self.pool.observer is not None:
            self.pool.observer.called(self, instance.cpu_ns, error)
        self.instance = None
        self.pool.release(instance)

    def _take_result(self, instance: Instance) -> EngineError | None:
        result = self._returned(instance)
        if isinstance(result, EngineError):
            return result
        if isinstance(result, Err):
            return self._exception(instance, *result.value)
        self._settle(result)
        return None

    def _returned(self, instance: Instance) -> Any:
        """What the export returned; an `EngineError` if that cannot be read."""
        try:
            return instance.take_result(self.name)
        except (CodecError, UnicodeDecodeError) as broken:
            return GuestTrapped(f"The worker broke the contract: {broken}")
        except Exception as error:
            # Whatever it is: without an outcome the caller would wait for ever.
            instance.spent = True
            self.pool.engine.report(error)
            return HostFault("The host failed to take the worker's answer.")

    def _discard_result(self, instance: Instance) -> None:
        """What `fetch` returned after it had answered by `respond`: only its error is of interest."""
        error = self._take_result_error(instance)
        if error is not None:
            self.pool.log(self.request_id, "error", error)

    def _take_result_error(self, instance: Instance) -> str | None:
        result = self._returned(instance)
        if isinstance(result, EngineError):
            return result.message
        if isinstance(result, Err):
            return str(result.value[2] or result.value[1])
        body = result[2]
        if hasattr(body, "close"):
            body.close()
        return None

    def _exception(self, instance: Instance, name: str, message: str, traceback: str) -> EngineError:
        self.pool.log(self.request_id, "error", traceback or f"{name}: {message}")
        if name == "MemoryError":
            instance.spent = True
            return MemoryLimitExceeded(self.limits.memory_bytes)
        reached = instance.limit_reached
        if reached is not None and reached.message in message:
            return BindingLimitExceeded(reached.code, reached.status, reached.message)
        return GuestException(name, message, traceback)
