"""A dispatch namespace at work: from a script's name to the worker pool of the version that is to answer.

A pool is made when its version is first asked for, and closed when the version is not deployed any more: what runs on
it finishes there. Pools that nobody has used for longest are closed when there are too many.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from host_bindings.body import Payload
from host_bindings.scope import Resources, Tenant
from runtime.artifacts import ArtifactStore
from runtime.dispatcher.errors import WorkerNotFound
from runtime.dispatcher.stub import Stub
from runtime.engine.engine import Engine
from runtime.engine.errors import EngineError, WorkerStopped, WorkerUnavailable
from runtime.engine.invocation import Invocation
from runtime.engine.limits import LimitPolicy, Limits, allowance
from runtime.engine.pool import Answer, Observer, WorkerPool
from runtime.registry import Registry, Version
from runtime.stopped import StoppedScripts

log = logging.getLogger(__name__)

VERSION_KEY_HEADER = "Cloudflare-Workers-Version-Key"
"""The request header that keeps a caller on one version while a deployment is split."""

_VERSION_KEY = re.compile(rf"^{VERSION_KEY_HEADER}: *([^\n]+)$", re.IGNORECASE | re.MULTILINE)

POOLS_MAX = 256
"""Pools that are kept open; one that works is never closed for this."""

TenantLogger = Callable[[str, str, str], None]
"""Takes a request's id, a level and a message."""


@dataclass(slots=True)
class _Entry:
    version: Version
    pool: WorkerPool
    used: int = 0


class DispatchNamespace:
    """The scripts of one dispatch namespace, ready to be called. In the operator's code: `env.DISPATCHER`.

    `log(version, limits)` gives the log that a version's worker writes to; `policy` has the operator's maxima.
    `observe` gives who is told of a version's calls.
    """

    def __init__(
        self,
        name: str,
        registry: Registry,
        artifacts: ArtifactStore,
        engine: Engine,
        resources: Resources,
        log: Callable[[Version, Limits], TenantLogger],
        *,
        policy: LimitPolicy | None = None,
        stopped: StoppedScripts | None = None,
        observe: Callable[[Version], Observer] | None = None,
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
        self._observe = observe
        self._stopped = stopped or StoppedScripts()
        self._stopped.subscribe(self._retire_stopped)
        registry.subscribe(self._changed)

    def get(self, name: str, args: object = None, options: object = None) -> Stub:
        """The script as an object with its methods. Never fails: a missing one shows when it is called.

        `args` and `options` are Cloudflare's further parameters and have no effect.
        """
        return Stub(self, name)

    def tenant(self, script: str) -> Tenant | None:
        """Whose script it is; None if it is not deployed."""
        found = self._registry.script(self.name, script)
        return None if found is None else found.current.tenant

    def load(self) -> dict[Tenant, tuple[int, int, int]]:
        """For each tenant that is open: instances, calls that have one or wait for one, and calls that wait."""
        found: dict[Tenant, tuple[int, int, int]] = {}
        for entry in self._entries.values():
            instances, running, queued = found.get(entry.version.tenant, (0, 0, 0))
            pool = entry.pool
            found[entry.version.tenant] = (instances + pool.instances, running + pool.running, queued + pool.queued)
        return found

    def __contains__(self, name: object) -> bool:
        """Whether a script of that name is deployed."""
        return isinstance(name, str) and self._registry.find(self.name, name) is not None

    async def fetch(
        self, script: str, method: str, url: str, headers: str, body: Payload, *, request_id: str
    ) -> Answer:
        """Calls the script's `fetch`. Raises `WorkerNotFound`, or `EngineError` as `WorkerPool.fetch` does."""
        while True:
            entry = self._entry(script, headers, request_id) or await self._open(script, headers, request_id)
            try:
                return await entry.pool.fetch(method, url, headers, body, request_id=request_id)
            except WorkerUnavailable:
                if not self._replaced(entry):
                    raise

    def begin_fetch(
        self, script: str, method: str, url: str, headers: str, body: Payload, *, request_id: str
    ) -> Invocation | None:
        """Begins what `fetch` does if an instance is idle; None, and nothing is done, if not.

        See `WorkerPool.begin_fetch`; the call's `pool` has its answer.
        """
        entry = self._entry(script, headers, request_id)
        return None if entry is None else entry.pool.begin_fetch(method, url, headers, body, request_id=request_id)

    async def call(
        self, script: str, method: str, arguments: str, attachments: Sequence[Payload], *, request_id: str
    ) -> tuple[str, list[Payload]]:
        """Calls a method of the script's: see `call` in the contract. Raises as `fetch` does."""
        payloads = list(attachments)
        while True:
            entry = self._entry(script, "", request_id) or await self._open(script, "", request_id)
            try:
                return await entry.pool.call(method, arguments, payloads, request_id=request_id)
            except WorkerUnavailable:
                if not self._replaced(entry):
                    raise

    async def close(self) -> None:
        """Lets what runs finish and closes every pool. Later calls fail."""
        self._closed = True
        for task in self._opening.values():
            task.cancel()
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        for entry in list(self._entries.values()):
            self._retire(entry)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _entry(self, script: str, headers: str, request_id: str) -> _Entry | None:
        """The pool of the version that is to answer, if it is open. Raises `WorkerNotFound`."""
        entry = self._entries.get(self._version(script, headers, request_id).id)
        if entry is None:
            return None
        self._clock += 1
        entry.used = self._clock
        return entry

    def _version(self, script: str, headers: str, request_id: str) -> Version:
        """All calls of one request get the same version, and so do all requests with the same key in their header."""
        found = self._registry.script(self.name, script)
        if found is None:
            raise WorkerNotFound(script)
        if not found.is_split:
            return found.current
        key = _VERSION_KEY.search(headers)
        return found.deployment.choose(f"key {key[1]}" if key else f"request {request_id}")

    async def _open(self, script: str, headers: str, request_id: str) -> _Entry:
        while (entry := self._entry(script, headers, request_id)) is None:
            if self._closed:
                raise WorkerUnavailable("The server is shutting down.")
            version = self._version(script, headers, request_id)
            if self._stopped.find(version.id) is not None:
                raise WorkerStopped
            opening = self._opening.get(version.id)
            if opening is None:
                opening = self._opening[version.id] = asyncio.create_task(self._open_version(version))
                opening.add_done_callback(partial(self._opened, version.id))
            # A caller that gives up must not end the opening for the others who wait for it.
            await asyncio.shield(opening)
        return entry

    def _opened(self, id: str, opening: asyncio.Task[None]) -> None:
        self._opening.pop(id, None)

    async def _open_version(self, version: Version) -> None:
        script = version.script
        try:
            with await self._artifacts.compiled(version.artifact) as compiled:
                component = await asyncio.to_thread(self._engine.load, compiled.component, compiled.modules)
        except EngineError:
            raise
        except Exception as error:
            if self._deployed(version) is None:
                return  # Replaced or deleted meanwhile: who waits looks again.
            log.exception("Script %r of namespace %r cannot be loaded", script, self.name)
            raise WorkerUnavailable("The worker cannot be loaded.") from error
        # As it is now: a grant that was given or taken away changes what its bindings mean.
        current = self._deployed(version)
        if current is None:
            return
        limits = self._policy.clamp(version.limits)
        scope = self._resources.scope(current.tenant, current.bindings, allowance(limits))
        tenant = f"{version.namespace}/{script}"
        tenant_log = self._log(current, limits)
        label = f"{tenant}/{version.id}"
        observer = None if self._observe is None else self._observe(current)
        pool = WorkerPool(self._engine, component, scope, limits, tenant_log, tenant, label, observer)
        self._entries[version.id] = _Entry(current, pool)
        self._evict()

    def _deployed(self, version: Version) -> Version | None:
        """The version as the registry has it now, if it answers requests."""
        found = self._registry.script(self.name, version.script)
        shares = found.deployment.shares if found else ()
        return next((share.version for share in shares if share.version.id == version.id), None)

    def _retire_stopped(self) -> None:
        for entry in list(self._entries.values()):
            if self._stopped.find(entry.version.id) is not None:
                self._retire(entry)

    def _replaced(self, entry: _Entry) -> bool:
        """Whether a call that was still waiting when its pool was closed is to be made on another pool."""
        return not self._closed and self._entries.get(entry.version.id) is not entry

    def _changed(self, namespace: str, script: str) -> None:
        if namespace != self.name:
            return
        for entry in [entry for entry in self._entries.values() if entry.version.script == script]:
            if self._deployed(entry.version) != entry.version:
                self._retire(entry)

    def _evict(self) -> None:
        if len(self._entries) <= self._pools_max:
            return
        idle = [entry for entry in self._entries.values() if not entry.pool.running]
        # The newest has not had its turn yet: the request that it was opened for comes next.
        idle = sorted(idle, key=lambda entry: entry.used or self._clock + 1)
        for entry in idle[: len(self._entries) - self._pools_max]:
            self._retire(entry)

    def _retire(self, entry: _Entry) -> None:
        if self._entries.get(entry.version.id) is entry:
            del self._entries[entry.version.id]
        task = asyncio.get_running_loop().create_task(self._close_pool(entry))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_pool(self, entry: _Entry) -> None:
        try:
            await entry.pool.close()
        except Exception:
            log.exception("The pool of script %r did not close", entry.version.script)
