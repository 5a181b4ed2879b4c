"""One instance of a component: its store, its handles, and the fiber on which its calls run.

A fiber runs guest code until the guest is done, waits in a host call, or has used up its time-slice. It is driven by
callbacks on the event loop, not by an asyncio task: a call that never waits costs no task and no future. After a trap,
a limit or an abandoned call the instance is spent and must be closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from host_bindings.context import GuestContext, Invocation
from host_bindings.contract import Err, Failure, LimitReached, Resource
from host_bindings.wasi.errors import GuestTrap
from runtime.engine import native
from runtime.engine.compile import HANDLER
from runtime.engine.errors import (
    CpuLimitExceeded,
    EngineError,
    GuestTrapped,
    HostCallLimitExceeded,
    HostFault,
    MemoryLimitExceeded,
)
from runtime.engine.handler import EXPORTS
from runtime.engine.layout import VALUE_BYTES, CodecError
from runtime.engine.lift import Decoder, decoder
from runtime.engine.limits import Limits
from runtime.engine.lower import Arena, Encoder, encoder

if TYPE_CHECKING:
    from host_bindings.scope import Scope
    from runtime.engine.engine import Engine, LoadedComponent

HANDLES_MAX = 4_096
"""Live handles in one instance; WASI's few included."""

TABLE_ELEMENTS_MAX = 200_000
INSTANCES_MAX = 64
TABLES_MAX = 64
MEMORIES_MAX = 2
"""Core instances, tables and memories of one component instance. The memory that a guest can have is `MEMORIES_MAX`
times its limit; componentize-py's components have one memory."""

TenantLog = Callable[[str, str, str], None]
"""Takes a request id, a level and a message."""

ASSUMED_CPU_NS = 500_000
"""A slice that took less is taken to have run all the time: reading the thread's CPU time costs more than it tells."""

Done = Callable[["Instance", EngineError | None], None]


def _discard(_level: str, _message: str) -> None:
    """The log of an instance that is closed."""


class Instance:
    """See the module. Made by `WorkerPool`; use from the event loop only."""

    def __init__(
        self, engine: Engine, component: LoadedComponent, scope: Scope, limits: Limits, log: TenantLog
    ) -> None:
        self._engine = engine
        self._component = component
        self._limits = limits
        self._store = native.Store(
            engine.native, (limits.memory_bytes, TABLE_ELEMENTS_MAX, INSTANCES_MAX, TABLES_MAX, MEMORIES_MAX)
        )
        self.context = self._store.context
        self._log = log
        self.request_id = ""
        """Whose log entries are being written."""
        self.guest = GuestContext(
            scope, self._write_log, printed_bytes_max=limits.log_bytes_max, frozen_clock=limits.clock == "frozen"
        )
        self._slot = native.CallSlot()
        self._arena = Arena()
        self._encoders: dict[str, tuple[int, list[Encoder], Decoder]] = {}
        self._handles: dict[int, tuple[object, Resource]] = {}
        self._next_handle = 1
        self._slice_tick = -1
        """The ticker's count when the guest was given its last time-slice: until the next tick that is a whole one."""
        self._future = 0
        self._task: asyncio.Future[Any] | None = None
        self._write: Encoder | None = None
        self._results = 0
        self._has_error = False
        self._failure: BaseException | None = None
        self._done: Done | None = None
        self._host_calls = 0
        self.limit_reached: LimitReached | None = None
        """The last limit that a host function of the current call has hit."""
        self.waiting = False
        self.spent = False
        self.tenant: object = self
        """What time-slices are shared among."""
        self.label = 0
        """Its number in the table of who runs."""
        self.cpu_ns = 0
        """CPU time of the current call so far."""
        self.used_up = False
        """Whether the current call has used up a time-slice."""
        self.calls = 0
        self.made_at = engine.now
        engine.instances[self.context] = self

    # ------------------------------------------------------------------------------------------------ calls

    def start(self, done: Done) -> None:
        """Instantiates the component. `done(instance, error)` is called at the end, maybe before this returns."""
        self._begin(done)
        self._future = self._slot.instantiate(self._component.linker, self._store, self._component.native)
        self._go_on()

    def call(self, name: str, arguments: tuple[Any, ...], invocation: Invocation | None, done: Done) -> None:
        """Calls an export of the handler; `take_result` gives what it returned. `done` as in `start`.

        Raises `CodecError` if the arguments do not fit; the instance is then as before.
        """
        index, encoders, _ = self._function(name)
        arena = self._arena
        address = arena.reserve(len(encoders) * VALUE_BYTES)
        try:
            slot = address
            for encode, value in zip(encoders, arguments, strict=True):
                encode(self, slot, value)
                slot += VALUE_BYTES
        except BaseException:
            arena.clear()
            raise
        self._begin(done)
        self.guest.invocation = invocation
        self.calls += 1
        self._future = self._slot.call(self._store, index, address, len(encoders))
        self._go_on()

    def take_result(self, name: str) -> Any:
        """What the last call returned; `Err` for the error side. Raises `CodecError` if it breaks the contract."""
        try:
            return self._function(name)[2](self, self._slot.result)
        finally:
            self._slot.release_result()

    def abort(self, error: EngineError) -> None:
        """Ends the running call with `error`, wherever it is. Not from inside a host function."""
        if self._done is not None:
            self._abandon(error)

    def close(self) -> None:
        """Frees the instance. A running call is ended first, without an answer."""
        self._done = None
        self._drop_future()
        self._close_handles(everything=True)
        self._engine.instances.pop(self.context, None)
        self._store.close()
        self.spent = True
        # Its context knows it. The machine code, which is an open file, must not wait for the garbage collector.
        self.guest.log = _discard

    def end_call(self) -> None:
        """Closes what the finished call left open."""
        self._engine.flush(self.guest)
        self.guest.invocation = None
        self._close_handles(everything=False)

    def _function(self, name: str) -> tuple[int, list[Encoder], Decoder]:
        found = self._encoders.get(name)
        if found is None:
            parameters, result = EXPORTS[name]
            index = self._component.native.function_index(HANDLER, name)
            found = (index, [encoder(kind, self._arena) for kind in parameters], decoder(result))
            self._encoders[name] = found
        return found

    def _write_log(self, level: str, message: str) -> None:
        self._log(self.request_id, level, message)

    def _begin(self, done: Done) -> None:
        assert self._done is None and not self.spent, "an instance runs one call at a time"
        self._done = done
        self._failure = None
        self._host_calls = 0
        self.limit_reached = None
        self.guest.clock_ns = None
        self.cpu_ns = 0
        self.used_up = False

    def _go_on(self) -> None:
        """Runs at once if that is fair to others, else when it is this call's turn."""
        if self._engine.turns.may_run(self.tenant):
            self._run()
        else:
            self._engine.turns.add(self)

    def _run(self, ticks: int = 2) -> None:
        """Lets the guest go on until it is done, waits, or its time-slice ends.

        That is at the second tick from now, so that it has a whole slice; at the next if it has used up one before: its
        turns begin where a tick has ended another's. (A short call that was ended at the next tick would wait for all
        others of its tenant again.)
        """
        engine = self._engine
        ticker = engine.ticker
        ticker.keep()
        if self._slice_tick != ticker.ticks:
            self._slice_tick = ticker.ticks
            self._store.begin_slice(ticks)
        before = perf_counter_ns()
        engine.running[0] = self.label
        finished = native.poll(self._future)
        engine.running[0] = 0
        elapsed_ns = perf_counter_ns() - before
        engine.turns.book(self.tenant, elapsed_ns)
        self.cpu_ns += elapsed_ns if elapsed_ns < ASSUMED_CPU_NS else engine.cpu_time_ns(elapsed_ns)
        self._arena.clear()
        if finished:
            self._finish()
        elif self.cpu_ns > self._limits.cpu_ms * 1_000_000:
            self._abandon(CpuLimitExceeded(self._limits.cpu_ms))
        elif self.waiting:
            assert self._task is not None
            self._task.add_done_callback(self._answered)
        else:
            self.used_up = True
            ticker.hurry()
            engine.turns.add(self)

    def resume(self) -> None:
        """Called by the scheduler when it is this instance's turn again."""
        if self._future:
            self._run(1 if self.used_up else 2)

    def _finish(self) -> None:
        native.delete_future(self._future)
        self._future = 0
        error = self._slot.take_error()
        if error is None:
            self._report(None)
        else:
            self.spent = True
            self._report(self._reason(error))

    def _abandon(self, error: EngineError) -> None:
        self.spent = True
        self._drop_future()
        self._report(error)

    def _report(self, error: EngineError | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(self, error)

    def _drop_future(self) -> None:
        task, self._task = self._task, None
        self.waiting = False
        if task is not None:
            task.remove_done_callback(self._answered)
            task.cancel()
        if self._future:
            native.delete_future(self._future)
            self._future = 0
            self.spent = True
        self._arena.clear()

    def _reason(self, error: native.NativeError) -> EngineError:
        """Why a call ended with a trap, in words for a caller."""
        failure, self._failure = self._failure, None
        if isinstance(failure, EngineError):
            return failure
        if isinstance(failure, GuestTrap):
            return GuestTrapped(str(failure))
        if isinstance(failure, Failure | CodecError):
            return GuestTrapped(f"The worker broke the contract: {failure}")
        if failure is not None:
            self._engine.report(failure)
            return HostFault("The host failed to carry out a call of the worker.")
        text = str(error)
        self.guest.log("error", text[:4096])
        if "all fuel consumed" in text or "stack exhausted" in text or "stack overflow" in text:
            return GuestTrapped("The worker crashed: its call stack is exhausted.")
        if "memory" in text and ("limit" in text or "exceed" in text):
            return MemoryLimitExceeded(self._limits.memory_bytes)
        return GuestTrapped("The worker crashed; the reason is in its log.")

    # ------------------------------------------------------------------------------------- host calls (linking)

    @property
    def host_calls(self) -> int:
        """Of the current call so far; the contract's functions, not WASI's."""
        return self._host_calls

    def count_host_call(self) -> None:
        """Raises `HostCallLimitExceeded` when the call has made too many."""
        self._host_calls += 1
        if self._host_calls > self._limits.host_calls_max:
            raise HostCallLimitExceeded(self._limits.host_calls_max)

    def note_limit(self, failure: LimitReached) -> None:
        """A host function has hit a limit of the tenant's. The log gets the first of a call; the guest may go on."""
        if self.limit_reached is None:
            self._write_log("error", f"{failure.message} [{failure.code}]")
        self.limit_reached = failure

    def fail(self, error: BaseException) -> None:
        """Keeps why the host function that is running ends the call; the first reason counts."""
        if self._failure is None:
            self._failure = error

    def wait(self, awaitable: Awaitable[Any], write: Encoder, results: int, has_error: bool) -> None:
        """Suspends the guest until the awaitable has the host function's result."""
        self._write, self._results, self._has_error = write, results, has_error
        self._task = asyncio.ensure_future(awaitable)
        self.waiting = True

    def _answered(self, task: asyncio.Future[Any]) -> None:
        """Puts the result of a host function that waited where the guest expects it, and goes on."""
        if task is not self._task:
            # The call was abandoned after the task was done and before this callback's turn: its memory is gone.
            return
        self._task = None
        try:
            try:
                value = task.result()
            except Failure as failure:
                if not self._has_error:
                    raise
                if isinstance(failure, LimitReached):
                    self.note_limit(failure)
                value = Err((failure.name, failure.message))
            finally:
                # Its exception knows this frame: both would keep all that the function had read for the collector.
                del task
            assert self._write is not None
            self._write(self, self._results, value)
        except asyncio.CancelledError:
            self._abandon(HostFault("A host function was cancelled."))
        except EngineError as error:
            self._abandon(error)
        except GuestTrap as trap:
            self._abandon(GuestTrapped(str(trap)))
        except (Failure, CodecError) as error:
            self._abandon(GuestTrapped(f"The worker broke the contract: {error}"))
        except Exception as error:
            self._engine.report(error)
            self._abandon(HostFault("The host failed to carry out a call of the worker."))
        else:
            self.waiting = False
            self.guest.clock_ns = None
            self._go_on()

    # ---------------------------------------------------------------------------------------- handles (codec)

    def insert(self, value: object, resource: Resource) -> int:
        """Gives the guest a handle. Numbers are never used again: a stale handle finds nothing."""
        if len(self._handles) >= HANDLES_MAX:
            raise CodecError(f"a worker has at most {HANDLES_MAX} handles at a time")
        rep = self._next_handle
        self._next_handle += 1
        self._handles[rep] = (value, resource)
        return rep

    def take(self, rep: int, number: int, *, owned: bool) -> object:
        found = self._handles.get(rep)
        if found is None or found[1].number != number:
            raise CodecError("a handle of an earlier call was used")
        if owned:
            del self._handles[rep]
        return found[0]

    def drop(self, rep: int, number: int) -> None:
        """The guest has dropped a handle."""
        found = self._handles.get(rep)
        if found is not None and found[1].number == number:
            del self._handles[rep]
            _close(found[0])

    def _close_handles(self, *, everything: bool) -> None:
        if not self._handles:
            return
        for rep, (value, resource) in list(self._handles.items()):
            if everything or resource.per_call:
                del self._handles[rep]
                _close(value)


def _close(value: object) -> None:
    close = getattr(value, "close", None)
    if close is not None:
        close()
