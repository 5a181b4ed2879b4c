"""Files on their way to or from a client that calls an address with a secret in it, as it would a signed one.

D1's export and import work like that: the client gets an address, and calls it without a token. An address is good for
an hour, and for one thing.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from host_bindings.scope import Tenant

LIFE_S = 3600.0
TRANSFERS_MAX = 64
"""Of each owner; the oldest goes for a new one."""


@dataclass
class Transfer:
    """`path` is there once the file is complete. `owner` and `resource` say what it belongs to."""

    id: str
    owner: Tenant | None
    resource: str
    upload: bool
    etag: str
    directory: Path
    expires_at: float
    complete: bool = False

    @property
    def path(self) -> Path:
        return self.directory / "content.sql"


class Transfers:
    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._transfers: dict[str, Transfer] = {}

    async def open(self, owner: Tenant | None, resource: str, *, upload: bool, etag: str = "") -> Transfer:
        """A transfer with an empty directory of its own; `etag` is the MD5 (hex) that an upload will have."""
        await self.expire()
        mine = [each for each in self._transfers.values() if each.owner == owner]
        for each in mine[: max(0, len(mine) - TRANSFERS_MAX + 1)]:
            await self._close(each)
        id = secrets.token_urlsafe(32)
        directory = self._directory / f"{hashlib.sha256(id.encode()).hexdigest()[:32]}.transfer"
        await asyncio.to_thread(directory.mkdir, mode=0o700)
        transfer = Transfer(id, owner, resource, upload, etag, directory, self._clock() + LIFE_S)
        self._transfers[id] = transfer
        return transfer

    def find(self, id: str, *, upload: bool) -> Transfer | None:
        """The transfer with this address, while it is good."""
        found = self._transfers.get(id)
        if found is None or found.upload != upload or self._clock() >= found.expires_at:
            return None
        return found

    async def expire(self) -> None:
        now = self._clock()
        for transfer in [each for each in self._transfers.values() if now >= each.expires_at]:
            await self._close(transfer)

    async def close(self) -> None:
        for transfer in list(self._transfers.values()):
            await self._close(transfer)

    async def _close(self, transfer: Transfer) -> None:
        self._transfers.pop(transfer.id, None)
        await asyncio.to_thread(shutil.rmtree, transfer.directory, ignore_errors=True)
