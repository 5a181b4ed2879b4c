"""A dispatch namespace at work: from a script's name to the worker pool of its current version.

A pool is made when its script is first asked for, and replaced when a request finds a newer version: what runs on the
old one finishes there. Pools that nobody has used for longest are closed when there are too many.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from host_bindings.body import Payload
from host_bindings.scope import Resources, Tenant
from runtime.artifacts import ArtifactStore
from runtime.dispatcher.errors import WorkerNotFound
from runtime.dispatcher.stub import Stub
from runtime.engine.engine import Engine
from runtime.engine.errors import EngineError, WorkerUnavailable
from runtime.engine.limits import LimitPolicy, Limits
from runtime.engine.pool import Answer, WorkerPool
from runtime.registry import Registry, Version

log = logging.getLogger(__name__)

POOLS_MAX = 256
"""Pools that are kept open; one that works is never closed for this."""

TenantLogger = Callable[[str, str, str], None]
"""Takes a request's id, a level and a message."""


@dataclass(slots=True)
class _Entry:
    version: Version
    pool: WorkerPool
    running: int = 0
    used: int = 0


class DispatchNamespace:
    """The scripts of one dispatch namespace, ready to be called. In the operator's code: `env.DISPATCHER`.

    `log(script, limits)` gives the log that a script's worker writes to; `policy` has the operator's maxima.
    """

    def __init__(
        self,
        name: str,
        registry: Registry,
        artifacts: ArtifactStore,
        engine: Engine,
        resources: Resources,
        log: Callable[[str, Limits], TenantLogger],
        *,
        policy: LimitPolicy | None = None,
        pools_max: int = POOLS_MAX,
    ) -> None:
        self.name = name
        self._registry = registry
        self._artifacts = artifacts
        self._engine = engine
        self._resources = resources
        self._log = log
        self._policy = policy or LimitPolicy()
        self._pools_max = pools_max
        self._entries: dict[str, _Entry] = {}
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._clock = 0
        self._closed = False
        registry.subscribe(self._changed)

    def get(self, name: str, args: object = None, options: object = None) -> Stub:
        """The script as an object with its methods. Never fails: a missing one shows when it is called.

        `args` and `options` are Cloudflare's further parameters and have no effect.
        """
        return Stub(self, name)

    def __contains__(self, name: object) -> bool:
        """Whether a script of that name is deployed."""
        return isinstance(name, str) and self._registry.find(self.name, name) is not None

    async def fetch(
        self, script: str, method: str, url: str, headers: str, body: Payload, *, request_id: str
    ) -> Answer:
        """Calls the script's `fetch`. Raises `WorkerNotFound`, or `EngineError` as `WorkerPool.fetch` does."""
        while True:
            entry = self._entry(script) or await self._open(script)
            entry.running += 1
            try:
                return await entry.pool.fetch(method, url, headers, body, request_id=request_id)
            except WorkerUnavailable:
                if not self._replaced(entry):
                    raise
            finally:
                entry.running -= 1

    async def call(
        self, script: str, method: str, arguments: str, attachments: Sequence[Payload], *, request_id: str
    ) -> tuple[str, list[Payload]]:
        """Calls a method of the script's: see `call` in the contract. Raises as `fetch` does."""
        payloads = list(attachments)
        while True:
            entry = self._entry(script) or await self._open(script)
            entry.running += 1
            try:
                return await entry.pool.call(method, arguments, payloads, request_id=request_id)
            except WorkerUnavailable:
                if not self._replaced(entry):
                    raise
            finally:
                entry.running -= 1

    async def close(self) -> None:
        """Lets what runs finish and closes every pool. Later calls fail."""
        self._closed = True
        for task in self._opening.values():
            task.cancel()
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        for entry in list(self._entries.values()):
            self._retire(entry)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _entry(self, script: str) -> _Entry | None:
        """The pool of the script's current version, if it is open. Raises `WorkerNotFound`."""
        version = self._registry.find(self.name, script)
        if version is None:
            raise WorkerNotFound(script)
        entry = self._entries.get(script)
        if entry is None or entry.version.id != version.id:
            return None
        self._clock += 1
        entry.used = self._clock
        return entry

    async def _open(self, script: str) -> _Entry:
        while (entry := self._entry(script)) is None:
            if self._closed:
                raise WorkerUnavailable("The server is shutting down.")
            opening = self._opening.get(script)
            if opening is None:
                opening = self._opening[script] = asyncio.create_task(self._open_current(script))
                opening.add_done_callback(lambda _: self._opening.pop(script, None))
            # A caller that gives up must not end the opening for the others who wait for it.
            await asyncio.shield(opening)
        return entry

    async def _open_current(self, script: str) -> None:
        version = self._registry.find(self.name, script)
        if version is None:
            return
        try:
            with await self._artifacts.compiled(version.artifact) as compiled:
                component = await asyncio.to_thread(self._engine.load, compiled.component, compiled.modules)
        except EngineError:
            raise
        except Exception as error:
            log.exception("Script %r of namespace %r cannot be loaded", script, self.name)
            raise WorkerUnavailable("The worker cannot be loaded.") from error
        scope = self._resources.scope(Tenant(version.namespace, version.script), version.bindings)
        tenant = f"{version.namespace}/{version.script}"
        limits = self._policy.clamp(version.limits)
        pool = WorkerPool(self._engine, component, scope, limits, self._log(script, limits), tenant)
        previous = self._entries.get(script)
        self._entries[script] = _Entry(version, pool)
        if previous is not None:
            self._retire(previous)
        self._evict()

    def _replaced(self, entry: _Entry) -> bool:
        """Whether a call that was still waiting when its pool was closed is to be made on another pool."""
        return not self._closed and self._entries.get(entry.version.script) is not entry

    def _changed(self, namespace: str, script: str) -> None:
        if namespace != self.name or (entry := self._entries.get(script)) is None:
            return
        version = self._registry.find(namespace, script)
        if version is None or version.id != entry.version.id:
            self._retire(entry)

    def _evict(self) -> None:
        if len(self._entries) <= self._pools_max:
            return
        idle = [entry for entry in self._entries.values() if not entry.running]
        # The newest has not had its turn yet: the request that it was opened for comes next.
        idle = sorted(idle, key=lambda entry: entry.used or self._clock + 1)
        for entry in idle[: len(self._entries) - self._pools_max]:
            self._retire(entry)

    def _retire(self, entry: _Entry) -> None:
        if self._entries.get(entry.version.script) is entry:
            del self._entries[entry.version.script]
        task = asyncio.get_running_loop().create_task(self._close_pool(entry))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_pool(self, entry: _Entry) -> None:
        try:
            await entry.pool.close()
        except Exception:
            log.exception("The pool of script %r did not close", entry.version.script)
