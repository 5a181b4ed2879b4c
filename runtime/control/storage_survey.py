"""What tenants keep on disk, booked to the day: a few of them at a time, so that thousands cost no more than some."""

from __future__ import annotations

import asyncio
import logging

import apsw

from host_bindings.scope import Resources, Tenant
from runtime.registry import Registry, RegistryError
from runtime.telemetry.ledger import Ledger
from runtime.telemetry.meters import TenantKey
from runtime.telemetry.recorder import Recorder

LOOK_S = 0.25
"""How long a look takes at most, but for the tenant that it is at."""

SHARE = 0.05
"""Which part of the time is spent on looking, at most."""

REST_S_MIN = 1.0

ROUND_S = 30.0
"""How often a round begins when nobody asks, if there is time for that."""

_logger = logging.getLogger(__name__)


class StorageSurvey:
    """Goes round all tenants: those that are deployed, and those that were and still have something stored.

    Belongs to one event loop.
    """

    def __init__(self, registry: Registry, resources: Resources, recorder: Recorder) -> None:
        self._registry = registry
        self._resources = resources
        self._recorder = recorder
        self._left: list[Tenant] = []
        """Of the round that has begun."""
        self._rests_until = float("-inf")
        self._lock = asyncio.Lock()

    async def look(self) -> None:
        """Measures the next tenants, unless that was done a moment ago. Raises `RegistryError` or `apsw.Error`."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            began = loop.time()
            if began < self._rests_until:
                return
            try:
                self._left = self._left or await self._tenants()
                sizes = await self._resources.sizes(self._left, LOOK_S)
                del self._left[: len(sizes)]
                booked = {TenantKey(tenant.namespace, tenant.script): size for tenant, size in sizes.items()}

                def book(ledger: Ledger) -> None:
                    ledger.set_storage(booked)

                await self._recorder.read(book)
            finally:
                took_s = loop.time() - began
                self._rests_until = loop.time() + max(REST_S_MIN, took_s / SHARE - took_s)

    async def run(self) -> None:
        """Goes round for ever, so that every day has its figures though nobody asks for them."""
        while True:
            try:
                await self.look()
            except (RegistryError, apsw.Error) as error:
                _logger.error("What tenants store cannot be measured at present: %s", error)
            rest_s = self._rests_until - asyncio.get_running_loop().time()
            await asyncio.sleep(rest_s if self._left else max(rest_s, ROUND_S))

    async def _tenants(self) -> list[Tenant]:
        found = dict.fromkeys(await self._registry.resources.owners())
        for namespace in await self._registry.list_namespaces():
            found |= dict.fromkeys(version.tenant for version in self._registry.list_scripts(namespace.name))
        return list(found)
