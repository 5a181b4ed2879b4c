"""The parts of the server that the management API works on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from host_bindings.scope import Resources
from runtime.artifacts import ArtifactStore
from runtime.control.collection import ArtifactCollection
from runtime.control.storage_survey import StorageSurvey
from runtime.control.transfers import Transfers
from runtime.engine.limits import LimitPolicy
from runtime.registry import Registry
from runtime.settings import ServerSettings
from runtime.stopped import StoppedScripts
from runtime.telemetry.observatory import Observatory

UPLOADS_AT_ONCE = 4
BULK_WRITES_AT_ONCE = 4


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
    survey: StorageSurvey
    uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS_AT_ONCE))
    bulk_writes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BULK_WRITES_AT_ONCE))
    """Each holds up to 100 MiB of values in memory."""
