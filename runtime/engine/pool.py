"""The instances of one worker version, and the calls that they carry out.

An instance serves one call at a time. It is used again for the next, within bounds of count and age, unless the call
ended in a trap or at a limit, or the worker wants a fresh one for every request. When all instances are taken, calls
wait their turn in a bounded queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from host_bindings.body import GUEST_CHUNK_BYTES, Body, BoundedBody, BytesBody, Payload
from host_bindings.contract import Err, Failure, LimitReached
from runtime.engine.engine import Engine, LoadedComponent
from runtime.engine.errors import (
    BindingLimitExceeded,
    EngineError,
    GuestException,
    GuestTrapped,
    LimitExceeded,
    MemoryLimitExceeded,
    RequestBodyTooLarge,
    ResponseBodyTooLarge,
    ResponseHeadersTooLarge,
    TooBusy,
    TooManyRequests,
    WorkerUnavailable,
)
from runtime.engine.instance import Instance, TenantLog
from runtime.engine.layout import CodecError
from runtime.engine.limits import Limits
from runtime.engine.native import NativeError
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


class Invocation:
    """One call: from its start on an instance until the guest is done, which may be after the answer."""

    __slots__ = ("_answer", "_failure", "_waiter", "cold", "instance", "limits", "name", "pool", "request_id")

    def __init__(self, pool: WorkerPool, name: str, request_id: str) -> None:
        self.pool = pool
        self.name = name
        self.request_id = request_id
        self.limits = pool.limits
        self.cold = False
        self.instance: Instance | None = None
        self._answer: Any = None
        self._failure: EngineError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def respond(self, status: int, headers: str, body: Payload) -> None:
        """The guest answers before it is done."""
        if self.name != "fetch":
            raise Failure("TypeError", "Only fetch can be answered early.")
        if self._answer is not None:
            raise Failure("TypeError", "This request has been answered already.")
        self._settle((status, headers, body))

    def abort(self, error: EngineError) -> None:
        """Ends the call."""
        if self.instance is not None:
            self.instance.abort(error)

    async def run(self, instance: Instance, arguments: tuple[Any, ...]) -> Any:
        """Carries out the call; what the export returned, or what was given to `respond`.

        Raises `EngineError`. If the caller is cancelled, so is the call.
        """
        self.instance = instance
        engine = self.pool.engine
        engine.invocations[self] = engine.now + self.limits.wall_ms / 1000
        try:
            instance.call(self.name, arguments, self, self._done)
        except (CodecError, NativeError) as error:
            engine.invocations.pop(self, None)
            self.pool.release(instance)
            raise GuestTrapped(f"The worker cannot be called: {error}") from None
        if self._answer is None and self._failure is None:
            self._waiter = engine.loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                self.abort(WorkerUnavailable("The caller has gone."))
                raise
        if self._failure is not None:
            raise self._failure
        return self._answer

    def _settle(self, answer: Any) -> None:
        self._answer = answer
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
                if isinstance(error, LimitExceeded):
                    self.pool.log(self.request_id, "error", f"{error.message} [{error.code}]")
            else:
                self.pool.log(self.request_id, "error", f"After the answer: {error.message} [{error.code}]")
        instance.end_call()
        self.pool.release(instance)

    def _take_result(self, instance: Instance) -> EngineError | None:
        try:
            result = instance.take_result(self.name)
        except (CodecError, UnicodeDecodeError) as broken:
            return GuestTrapped(f"The worker broke the contract: {broken}")
        if isinstance(result, Err):
            return self._exception(instance, *result.value)
        self._settle(result)
        return None

    def _discard_result(self, instance: Instance) -> None:
        """What `fetch` returned after it had answered by `respond`: only its error is of interest."""
        error = self._take_result_error(instance)
        if error is not None:
            self.pool.log(self.request_id, "error", error)

    def _take_result_error(self, instance: Instance) -> str | None:
        try:
            result = instance.take_result(self.name)
        except (CodecError, UnicodeDecodeError) as broken:
            return f"The worker broke the contract: {broken}"
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
    ) -> None:
        self.engine = engine
        self.limits = limits
        self.log = log
        self.tenant = self if tenant is None else tenant
        self._label = engine.table.add(label)
        self._component = component
        self._scope = scope
        self._idle: list[Instance] = []
        self._live = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._rate = RequestRate(limits.requests_per_s, engine.now)
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
    def queued(self) -> int:
        """Calls that wait for an instance."""
        return len(self._queue)

    async def fetch(self, method: str, url: str, headers: str, body: Payload, *, request_id: str) -> Answer:
        """Lets the worker answer an HTTP request. Headers are text as in the contract. Raises `EngineError`."""
        invocation = Invocation(self, "fetch", request_id)
        body = self._bounded_request(body, request_id)
        instance = await self._instance(invocation)
        arguments = (method, url, headers, body)
        status, answer_headers, answer_body = await invocation.run(instance, arguments)
        answer_body = self._bounded_answer(answer_headers, answer_body, request_id)
        return Answer(status, answer_headers, answer_body, instance.cpu_ns / 1e6, invocation.cold)

    async def call(
        self, method: str, arguments: str, attachments: list[Payload], *, request_id: str
    ) -> tuple[str, list[Payload]]:
        """Calls a public method of the worker: see the contract's `handler.call`. Raises `EngineError`."""
        invocation = Invocation(self, "call", request_id)
        instance = await self._instance(invocation)
        sendable = [self._bounded_request(each, request_id) for each in attachments] if attachments else attachments
        value, returned = await invocation.run(instance, (method, arguments, sendable))
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
        while self._queue:
            waiter = self._queue.popleft()
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

    async def _instance(self, invocation: Invocation) -> Instance:
        """An instance for a call: an idle one, a new one, or the next that comes free."""
        wait_s = self._rate.take(self.engine.now)
        if wait_s:
            raise self._refusal(TooManyRequests(self.limits.requests_per_s, ceil(wait_s)), invocation.request_id)
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
            self._queue.append(waiter)
            try:
                async with asyncio.timeout(self.limits.wall_ms / 1000):
                    await waiter
            except TimeoutError:
                raise self._refusal(TooBusy(RETRY_AFTER_S), request_id) from None
            finally:
                if not waiter.done():
                    waiter.cancel()
            if self._closed or self._idle or self._live < self.limits.instances_max:
                return

    def _refusal(self, error: LimitExceeded, request_id: str) -> LimitExceeded:
        """Tells the tenant's log of a request that was not let in: one line a second, however many there are."""
        self._refused += 1
        now = self.engine.now
        if now - self._refusals_logged_at >= 1:
            self.log(request_id, "warn", f"{error.message} [{error.code}] Requests refused so far: {self._refused}.")
            self._refusals_logged_at = now
        return error

    def _bounded_request(self, payload: Payload, request_id: str) -> Payload:
        """The payload as it may cross: bytes above the contract's bound become a stream. Raises if it is too large."""
        limit = self.limits.request_body_bytes_max
        size = _size(payload)
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
        size = _size(body)
        if (_size(headers) or 0) > limits.response_header_bytes_max:
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
            raise
        finally:
            self.engine.invocations.pop(invocation, None)
        if error is not None:
            self._drop(instance)
            if isinstance(error, GuestTrapped):
                raise WorkerUnavailable(f"The worker does not start: {error.message}")
            raise error
        return instance


def _size(payload: Payload) -> int | None:
    """In bytes; None if it is not known."""
    if payload is None:
        return 0
    if isinstance(payload, Body):
        return payload.length
    return (
        len(payload)
        if isinstance(payload, bytes) or payload.isascii()
        else len(payload.encode("utf-8", "surrogatepass"))
    )


def _request_body_reached(limit: int) -> LimitReached:
    error = RequestBodyTooLarge(limit)
    return LimitReached(error.code, error.status, "RangeError", f"{error.message} [{error.code}]")
