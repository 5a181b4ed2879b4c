"""The engine: one wasmtime engine for the process, what has been loaded into it, and what beats its time.

Everything that instances share is here: the linkers, the epoch ticker that ends time-slices, the turns, the watchdog
that ends calls at their wall-clock limit and closes instances that nobody has used for a while.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep, thread_time_ns
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from host_bindings.context import GuestContext
from host_bindings.contract import Interface
from runtime.engine.compile import configuration
from runtime.engine.instance import Instance
from runtime.engine.linking import host_imports
from runtime.engine.native import Linker, NativeComponent, NativeEngine, NativeModule
from runtime.engine.rate import SharedCounts
from runtime.engine.running import RunningTable
from runtime.engine.turns import Turns

if TYPE_CHECKING:
    from runtime.engine.invocation import Invocation
    from runtime.engine.pool import WorkerPool

logger = logging.getLogger(__name__)

SLICE_S = 0.001
"""How long a guest runs before others get their turn."""

CALM_SLICE_S = 0.002
"""The same while no guest has used up a time-slice for long: each tick takes the event loop's caches from it."""

HURRIED_TICKS = 200
"""For how many ticks a guest that has used up a time-slice makes them short."""

TICKS_WITHOUT_CALL_MAX = 50
"""After so many slices without a call the ticker sleeps until the next one."""

WATCH_INTERVAL_S = 0.05
"""How often the watchdog looks at the calls in flight: how exact a wall-clock limit is."""

IDLE_S = 60.0
"""How long an instance is kept without a request."""

DISCARDED_AT_ONCE_MAX = 8
"""How many instances go at one look of the watchdog: each takes a part of a millisecond."""

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class LoadedComponent:
    """A component that can be instantiated. Keeps its machine code mapped."""

    native: NativeComponent
    linker: Linker


class Ticker:
    """A thread that moves the epoch on while guests run, and sleeps when none does."""

    def __init__(self, engine: NativeEngine) -> None:
        self._engine = engine
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._asleep = True
        self.calls = 0
        self.ticks = 0
        """How often the epoch has been moved on."""
        self._hurried_until = 0
        self._thread = threading.Thread(target=self._run, name="epoch", daemon=True)
        self._thread.start()

    def keep(self) -> None:
        """Tells that a guest is about to run."""
        self.calls += 1
        if self._asleep:
            self._asleep = False
            self._wake.set()

    def hurry(self) -> None:
        """Tells that a guest has used up a time-slice: others may have to wait for it."""
        self._hurried_until = self.ticks + HURRIED_TICKS

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            quiet, seen = 0, -1
            while not self._stop.is_set() and quiet < TICKS_WITHOUT_CALL_MAX:
                sleep(SLICE_S if self.ticks < self._hurried_until else CALM_SLICE_S)
                self._engine.increment_epoch()
                self.ticks += 1
                quiet, seen = (quiet + 1, seen) if self.calls == seen else (0, self.calls)
            self._asleep = True
            if self.calls != seen:
                self._wake.set()


class Engine:
    """Make one in each server process, on its event loop."""

    def __init__(
        self,
        interfaces: Sequence[Interface],
        flush: Callable[[GuestContext], None] = lambda _context: None,
        running: RunningTable | None = None,
        idle_memory_bytes: int = sys.maxsize,
        counts: SharedCounts | None = None,
    ) -> None:
        """`interfaces`: all that a component may import. `flush` is called at the end of every call. `running` is told
        whose guest runs. Idle instances are kept while the process's own memory is below `idle_memory_bytes`. `counts`
        are of the requests that all server processes let in, if there are others."""
        self.loop = asyncio.get_running_loop()
        self.native = NativeEngine(configuration())
        self.flush = flush
        self.table = running or RunningTable()
        self.running = self.table.running
        """Its first word is the label number of the guest that runs."""
        self.instances: dict[int, Instance] = {}
        """Live instances by their store's context: how a host function finds its caller."""
        self.now = self.loop.time()
        """The loop's time as of the watchdog's last look: cheap, and exact to its interval."""
        self.turns = Turns(self.loop)
        self.invocations: dict[Invocation, float] = {}
        """Calls in flight and when each must be over."""
        self.idle: OrderedDict[Instance, tuple[WorkerPool, float]] = OrderedDict()
        """Instances without a call, least recently used first, and since when."""
        self.idle_memory_bytes = idle_memory_bytes
        self.counts = counts
        self._cpu_mark_ns = thread_time_ns()
        self._imports = host_imports(interfaces, self.instances)
        # Kept as long as somebody has a component that needs them.
        self._components: WeakValueDictionary[Path, NativeComponent] = WeakValueDictionary()
        self._modules: WeakValueDictionary[Path, NativeModule] = WeakValueDictionary()
        self._linkers: WeakValueDictionary[tuple[tuple[str, Path], ...], Linker] = WeakValueDictionary()
        self._loading = threading.Lock()
        self.ticker = Ticker(self.native)
        self._watch = self.loop.call_later(WATCH_INTERVAL_S, self._watchdog)

    def load(self, component: Path, modules: Mapping[str, Path]) -> LoadedComponent:
        """Maps machine code. Blocks for a few milliseconds: call it in a thread.

        `component` and `modules` (by the name under which the component imports them) are files that this host
        compiled and has verified: they run as native code. What is mapped already is shared, so a path always means the
        same content. Raises `NativeError` if they are not for this engine.
        """
        with self._loading:
            loaded = self._component(component)
            key = tuple(sorted(modules.items()))
            linker = self._linkers.get(key)
            if linker is None:
                used = {name: self._module(path) for name, path in key}
                linker = self._linkers[key] = Linker(self.native, used, self._imports)
        return LoadedComponent(loaded, linker)

    def _component(self, path: Path) -> NativeComponent:
        component = self._components.get(path)
        if component is None:
            component = self._components[path] = NativeComponent(self.native.engine, path)
        return component

    def _module(self, path: Path) -> NativeModule:
        module = self._modules.get(path)
        if module is None:
            module = self._modules[path] = NativeModule(self.native.engine, path)
        return module

    def cpu_time_ns(self, elapsed_ns: int) -> int:
        """The CPU time of a slice that has just ended and took so long: at most what the thread has really had."""
        now = thread_time_ns()
        spent, self._cpu_mark_ns = now - self._cpu_mark_ns, now
        return min(elapsed_ns, spent)

    def report(self, error: BaseException) -> None:
        """Logs a fault of the host's own for the operator."""
        logger.error("a host function failed", exc_info=error)

    def keep_idle(self, instance: Instance, pool: WorkerPool) -> None:
        """Notes that an instance has nothing to do."""
        self.idle[instance] = (pool, self.now)

    async def close(self) -> None:
        """Stops the engine. Pools must have been closed."""
        self._watch.cancel()
        for instance in list(self.instances.values()):
            instance.close()
        await asyncio.to_thread(self.ticker.stop)

    def _watchdog(self) -> None:
        now = self.now = self.loop.time()
        self.table.beat()
        self._cpu_mark_ns = thread_time_ns()
        for invocation, deadline in list(self.invocations.items()):
            if deadline <= now:
                invocation.expire()
        self._discard_idle(now)
        self._watch = self.loop.call_later(WATCH_INTERVAL_S, self._watchdog)

    def _discard_idle(self, now: float) -> None:
        """Frees instances that have been idle for long and, if memory is short, those that have been so for longest."""
        discarded = 0
        while self.idle:
            instance, (pool, since) = next(iter(self.idle.items()))
            if since + IDLE_S > now:
                if discarded >= DISCARDED_AT_ONCE_MAX or own_memory_bytes() <= self.idle_memory_bytes:
                    break
                discarded += 1
            pool.discard_idle(instance)


def own_memory_bytes() -> int:
    """What this process has in memory and no file backs: what instances have written, and the heap."""
    with open("/proc/self/statm", "rb") as file:
        _, resident, of_files, *_ = file.read().split()
    return (int(resident) - int(of_files)) * _PAGE_BYTES
