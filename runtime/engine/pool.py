"""The instances of one worker version, and the calls that they carry out.

An instance serves one call at a time. It is used again for the next, within bounds of count and age, unless the call
ended in a trap or at a limit, or the worker wants a fresh one for every request. When all instances are taken, calls
wait their turn in a bounded queue.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial
from math import ceil
from time import perf_counter_ns
from typing import TYPE_CHECKING, NamedTuple, Protocol

from host_bindings.body import GUEST_CHUNK_BYTES, Body, BoundedBody, BytesBody, Payload, known_size
from host_bindings.contract import Failure, LimitReached
from runtime.engine.answer_body import AnswerBody
from runtime.engine.engine import Engine, LoadedComponent
from runtime.engine.errors import (
    EngineError,
    GuestTrapped,
    LimitExceeded,
    RequestBodyTooLarge,
    ResponseBodyTooLarge,
    ResponseHeadersTooLarge,
    TooBusy,
    TooManyRequests,
    WorkerUnavailable,
)
from runtime.engine.instance import Instance, TenantLog
from runtime.engine.invocation import Invocation
from runtime.engine.limits import Limits
from runtime.engine.rate import RequestRate

if TYPE_CHECKING:
    from host_bindings.scope import Scope

CALLS_PER_INSTANCE_MAX = 100_000
INSTANCE_AGE_S_MAX = 3600.0
RETRY_AFTER_S = 1


class Answer(NamedTuple):
    """What `fetch` gives. `body` is the receiver's to read and close."""

    status: int
    headers: str
    body: Payload
    cpu_ms: float
    """CPU time until the answer."""
    cold: bool
    """Whether an instance was made for this call."""


class Observer(Protocol):
    """Who is told of calls, for logs and figures. Must be quick, and must not raise."""

    version_number: int
    """Which of the script's versions these calls are of."""

    def started(self, invocation: Invocation, began_ns: int) -> None:
        """An instance has been made for a call; that began at `began_ns` (`perf_counter_ns`)."""

    def called(self, invocation: Invocation, cpu_ns: int, error: EngineError | None) -> None:
        """The guest is done with a call, all that it did after its answer included."""

    def refused(self, error: EngineError, request_id: str) -> None:
        """A call was not let in."""


class WorkerPool:
    """Calls of one worker version. `tenant` is what time-slices are shared among; one object for each tenant.

    `label` is what the table of who runs says while a guest of this version does.
    """

    def __init__(
        self,
        engine: Engine,
        component: LoadedComponent,
        scope: Scope,
        limits: Limits,
        log: TenantLog,
        tenant: object = None,
        label: str = "",
        observer: Observer | None = None,
    ) -> None:
        self.engine = engine
        self.limits = limits
        self.log = log
        self.observer = observer
        self.tenant = self if tenant is None else tenant
        self._label = engine.table.add(label)
        self._component = component
        self._scope = scope
        self._idle: list[Instance] = []
        self._live = 0
        self._queue: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        """Those that wait for an instance, first come first served; whoever gives up leaves it at once."""
        counter = engine.counts.counter(label) if engine.counts is not None else None
        self._rate = RequestRate(limits.requests_per_s, engine.now, counter)
        self._refused = 0
        self._refusals_logged_at = 0.0
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def instances(self) -> int:
        """Live instances, idle or not."""
        return self._live

    @property
    def running(self) -> int:
        """Calls that have an instance, or wait for one."""
        return self._live - len(self._idle) + len(self._queue)

    @property
    def queued(self) -> int:
        """Calls that wait for an instance."""
        return len(self._queue)

    async def fetch(self, method: str, url: str, headers: str, body: Payload, *, request_id: str) -> Answer:
        """Lets the worker answer an HTTP request. Headers are text as in the contract. Raises `EngineError`."""
        invocation = Invocation(self, "fetch", request_id)
        body = self._bounded_request(body, request_id)
        self._admit(request_id)
        invocation.start(await self._instance(invocation), (method, url, headers, body))
        return await self.finish_fetch(invocation)

    def begin_fetch(self, method: str, url: str, headers: str, body: Payload, *, request_id: str) -> Invocation | None:
        """Begins what `fetch` does on an instance that is idle; None, and nothing is done, if there is none.

        Most calls are settled when this returns, so that they cost no task: `answer` gives what came of them, or
        `finish_fetch` when it is there. Raises `EngineError` if the request is not let in.
        """
        if not self._idle or self._queue:
            return None
        invocation = Invocation(self, "fetch", request_id)
        body = self._bounded_request(body, request_id)
        self._admit(request_id)
        invocation.start(self._take_idle(invocation), (method, url, headers, body))
        return invocation

    async def finish_fetch(self, invocation: Invocation) -> Answer:
        """The answer of a fetch that has begun, when it is there. Raises `EngineError`."""
        await invocation.wait()
        return self.answer(invocation)

    def answer(self, invocation: Invocation) -> Answer:
        """The answer of a fetch that is settled. Raises `EngineError`."""
        status, headers, body = invocation.result()
        body = self._bounded_answer(headers, body, invocation.request_id)
        if not invocation.outcome and isinstance(body, Body):
            body = AnswerBody(body, invocation)
        return Answer(status, headers, body, invocation.cpu_ns / 1e6, invocation.cold)

    async def call(
        self, method: str, arguments: str, attachments: list[Payload], *, request_id: str
    ) -> tuple[str, list[Payload]]:
        """Calls a public method of the worker: see the contract's `handler.call`. Raises `EngineError`."""
        invocation = Invocation(self, "call", request_id)
        self._admit(request_id)
        instance = await self._instance(invocation)
        sendable = [self._bounded_request(each, request_id) for each in attachments] if attachments else attachments
        invocation.start(instance, (method, arguments, sendable))
        await invocation.wait()
        value, returned = invocation.result()
        return value, [self._bounded_answer("", each, request_id) for each in returned] if returned else returned

    async def close(self) -> None:
        """Takes no new calls, lets those that run finish, frees the instances."""
        self._closed = True
        for waiter in self._queue:
            if not waiter.done():
                waiter.set_result(None)
        for instance in list(self._idle):
            self.discard_idle(instance)
        await self._empty.wait()
        self._rate.close()
        self.engine.table.remove(self._label)
        self._label = 0

    def release(self, instance: Instance) -> None:
        """Takes an instance back after a call."""
        worn = (
            instance.spent
            or self._closed
            or self.limits.isolation == "request"
            or instance.calls >= CALLS_PER_INSTANCE_MAX
            or self.engine.now - instance.made_at > INSTANCE_AGE_S_MAX
        )
        if worn:
            self._drop(instance)
        else:
            self._idle.append(instance)
            self.engine.keep_idle(instance, self)
        self._wake_next()

    def _wake_next(self) -> None:
        """An instance, or room for one, has come free."""
        while self._queue:
            waiter, _ = self._queue.popitem(last=False)
            if not waiter.done():
                waiter.set_result(None)
                break

    def discard_idle(self, instance: Instance) -> None:
        """Frees an instance that has nothing to do."""
        self._idle.remove(instance)
        self.engine.idle.pop(instance, None)
        self._drop(instance)

    def _drop(self, instance: Instance) -> None:
        instance.close()
        self._live -= 1
        if self._live == 0:
            self._empty.set()

    def _admit(self, request_id: str) -> None:
        """Counts a request. Raises `TooManyRequests` if there have been too many."""
        wait_s = self._rate.take(self.engine.now)
        if wait_s:
            raise self._refusal(TooManyRequests(self.limits.requests_per_s, ceil(wait_s)), request_id)

    async def _instance(self, invocation: Invocation) -> Instance:
        """An instance for a call: an idle one, a new one, or the next that comes free."""
        if self._idle and not self._queue:
            return self._take_idle(invocation)
        if self._closed:
            raise WorkerUnavailable("The worker is being replaced. Try again.")
        if self._live >= self.limits.instances_max:
            await self._wait_for_turn(invocation.request_id)
            if self._closed:
                raise WorkerUnavailable("The worker is being replaced. Try again.")
            if self._idle:
                return self._take_idle(invocation)
        return await self._make(invocation)

    def _take_idle(self, invocation: Invocation) -> Instance:
        instance = self._idle.pop()
        self.engine.idle.pop(instance, None)
        instance.request_id = invocation.request_id
        return instance

    async def _wait_for_turn(self, request_id: str) -> None:
        while True:
            if len(self._queue) >= self.limits.queue_max:
                raise self._refusal(TooBusy(RETRY_AFTER_S), request_id)
            waiter: asyncio.Future[None] = self.engine.loop.create_future()
            self._queue[waiter] = None
            try:
                async with asyncio.timeout(self.limits.wall_ms / 1000):
                    await waiter
            except TimeoutError:
                self._pass_on(waiter)
                raise self._refusal(TooBusy(RETRY_AFTER_S), request_id) from None
            except asyncio.CancelledError:
                self._pass_on(waiter)
                raise
            if self._closed or self._idle or self._live < self.limits.instances_max:
                return

    def _pass_on(self, waiter: asyncio.Future[None]) -> None:
        """Whoever waited does not any more: if its turn has just come, it is the next one's."""
        self._queue.pop(waiter, None)
        if waiter.done() and not waiter.cancelled():
            self._wake_next()

    def _refusal(self, error: LimitExceeded, request_id: str) -> LimitExceeded:
        """Tells the tenant's log of a request that was not let in: one line a second, however many there are."""
        self._refused += 1
        if self.observer is not None:
            self.observer.refused(error, request_id)
        now = self.engine.now
        if now - self._refusals_logged_at >= 1:
            self.log(request_id, "warn", f"{error.message} [{error.code}] Requests refused so far: {self._refused}.")
            self._refusals_logged_at = now
        return error

    def _bounded_request(self, payload: Payload, request_id: str) -> Payload:
        """The payload as it may cross: bytes above the contract's bound become a stream. Raises if it is too large."""
        limit = self.limits.request_body_bytes_max
        size = known_size(payload)
        if size is None:
            assert isinstance(payload, Body)
            return BoundedBody(payload, limit, partial(_request_body_reached, limit))
        if size > limit:
            if isinstance(payload, Body):
                payload.close()
            raise self._refusal(RequestBodyTooLarge(limit), request_id)
        if isinstance(payload, bytes) and size > GUEST_CHUNK_BYTES:
            return BytesBody(payload)
        return payload

    def _bounded_answer(self, headers: str, body: Payload, request_id: str) -> Payload:
        """The answer's body, which fails at the limit if its length is not known. Raises `LimitExceeded`."""
        limits = self.limits
        error: LimitExceeded | None = None
        size = known_size(body)
        if (known_size(headers) or 0) > limits.response_header_bytes_max:
            error = ResponseHeadersTooLarge(limits.response_header_bytes_max)
        elif size is not None and size > limits.response_body_bytes_max:
            error = ResponseBodyTooLarge(limits.response_body_bytes_max)
        if error is not None:
            if isinstance(body, Body):
                body.close()
            self.log(request_id, "error", f"{error.message} [{error.code}]")
            raise error
        if size is None:
            assert isinstance(body, Body)
            return BoundedBody(body, limits.response_body_bytes_max, partial(self._answer_exceeded, request_id))
        return body

    def _answer_exceeded(self, request_id: str) -> Failure:
        error = ResponseBodyTooLarge(self.limits.response_body_bytes_max)
        self.log(request_id, "error", f"{error.message} [{error.code}]")
        return Failure("RangeError", error.message)

    async def _make(self, invocation: Invocation) -> Instance:
        """A new instance, started. Raises `WorkerUnavailable` with the reason if it does not start."""
        self._live += 1
        self._empty.clear()
        invocation.cold = True
        began_ns = perf_counter_ns()
        instance = Instance(self.engine, self._component, self._scope, self.limits, self.log)
        instance.tenant = self.tenant
        instance.label = self._label
        instance.request_id = invocation.request_id
        started: asyncio.Future[EngineError | None] = self.engine.loop.create_future()

        def done(_instance: Instance, error: EngineError | None) -> None:
            if not started.done():
                started.set_result(error)

        invocation.instance = instance
        self.engine.invocations[invocation] = self.engine.now + self.limits.wall_ms / 1000
        try:
            instance.start(done)
            error = started.result() if started.done() else await started
        except BaseException:
            self._drop(instance)
            self._wake_next()
            raise
        finally:
            self.engine.invocations.pop(invocation, None)
        if error is not None:
            self._drop(instance)
            self._wake_next()
            if isinstance(error, GuestTrapped):
                raise WorkerUnavailable(f"The worker does not start: {error.message}")
            raise error
        if self.observer is not None:
            self.observer.started(invocation, began_ns)
        return instance


def _request_body_reached(limit: int) -> LimitReached:
    error = RequestBodyTooLarge(limit)
    return LimitReached(error.code, error.status, "RangeError", error.message)
