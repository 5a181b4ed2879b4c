"""The parts that watch a server process, opened and closed together."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from runtime.telemetry.meters import Meters
from runtime.telemetry.recorder import Recorder
from runtime.telemetry.tail import Tails


@dataclass(frozen=True)
class Observatory:
    meters: Meters
    recorder: Recorder
    tails: Tails


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
