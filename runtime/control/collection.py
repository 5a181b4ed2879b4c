"""When artifacts that no version needs any more are deleted: never while an upload is between store and registry."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from runtime.artifacts import ArtifactStore
from runtime.registry import Registry

_logger = logging.getLogger(__name__)


class ArtifactCollection:
    def __init__(self, artifacts: ArtifactStore, registry: Registry) -> None:
        self._artifacts = artifacts
        self._registry = registry
        self._collecting = asyncio.Lock()
        self._deploying = 0
        self._wanted = False

    @contextlib.asynccontextmanager
    async def deploying(self) -> AsyncIterator[None]:
        """Holds collections off: from before an artifact is stored until a version refers to it."""
        async with self._collecting:
            self._deploying += 1
        try:
            yield
        finally:
            self._deploying -= 1
            if self._wanted:
                await self.collect()

    async def collect(self) -> None:
        """Deletes what no version refers to, now or when the deployments under way have ended."""
        async with self._collecting:
            self._wanted = self._deploying > 0
            if self._wanted:
                return
            try:
                await self._artifacts.collect(await self._registry.referenced_artifacts())
            except Exception:
                # What is left over costs room, no more; the next collection takes it.
                _logger.exception("Unused artifacts could not be deleted")
