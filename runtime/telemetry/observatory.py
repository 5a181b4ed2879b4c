"""The parts that watch a server process, opened and closed together."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from runtime.telemetry.meters import Meters, TenantKey
from runtime.telemetry.recorder import Recorder
from runtime.telemetry.tail import Tails


@dataclass(frozen=True)
class Observatory:
    meters: Meters
    recorder: Recorder
    tails: Tails
    shown: set[TenantKey] = field(default_factory=set)
    """Tenants that have figures of their own in the metrics."""


async def open_observatory(stack: AsyncExitStack, directory: Path) -> Observatory:
    """Opens the files in `directory`. Raises `apsw.Error` or `OSError` where that is not possible."""
    await asyncio.to_thread(directory.mkdir, mode=0o700, exist_ok=True)
    meters, tails = Meters(), Tails(directory / "tails.sqlite")
    recorder = Recorder(directory / "usage.sqlite", meters)
    await recorder.open()
    stack.push_async_callback(recorder.close)
    await tails.open()
    stack.push_async_callback(tails.close)
    return Observatory(meters, recorder, tails)
