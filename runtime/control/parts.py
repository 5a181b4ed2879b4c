"""The parts of the server that the management API works on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from host_bindings.scope import Resources
from runtime.artifacts import ArtifactStore
from runtime.control.collection import ArtifactCollection
from runtime.control.transfers import Transfers
from runtime.engine.limits import LimitPolicy
from runtime.registry import Registry
from runtime.settings import ServerSettings
from runtime.stopped import StoppedScripts
from runtime.telemetry.ledger import Ledger
from runtime.telemetry.meters import TenantKey
from runtime.telemetry.observatory import Observatory

UPLOADS_AT_ONCE = 4
BULK_WRITES_AT_ONCE = 4

STORAGE_MEASURED_S = 30.0
"""How old the figure of what tenants keep on disk may be."""


@dataclass(frozen=True)
class Parts:
    registry: Registry
    artifacts: ArtifactStore
    resources: Resources
    settings: ServerSettings
    policy: LimitPolicy
    collection: ArtifactCollection
    transfers: Transfers
    stopped: StoppedScripts
    observatory: Observatory
    uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS_AT_ONCE))
    bulk_writes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BULK_WRITES_AT_ONCE))
    """Each holds up to 100 MiB of values in memory."""

    async def measure_storage(self) -> None:
        """Books what each tenant keeps on disk at present to today, unless that was done a moment ago."""
        recorder = self.observatory.recorder
        now = asyncio.get_running_loop().time()
        if now - recorder.storage_measured < STORAGE_MEASURED_S:
            return
        recorder.storage_measured = now
        sizes: dict[TenantKey, int] = {}
        for namespace in await self.registry.list_namespaces():
            for version in self.registry.list_scripts(namespace.name):
                tenant = version.tenant
                sizes[TenantKey(tenant.namespace, tenant.script)] = await self.resources.size(tenant)

        def book(ledger: Ledger) -> None:
            ledger.set_storage(sizes)

        await recorder.read(book)
