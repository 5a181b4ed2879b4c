"""The parts that watch a server process, opened and closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from runtime.telemetry.meters import Meters, TenantKey
from runtime.telemetry.recorder import Recorder
from runtime.telemetry.tail import Tails


class TelemetryUnusable(Exception):
    """A file cannot be used; the message says which, and what to do."""


@dataclass(frozen=True)
class Observatory:
    meters: Meters
    recorder: Recorder
    tails: Tails
    shown: set[TenantKey] = field(default_factory=set)
    """Tenants that have figures of their own in the metrics."""


async def open_observatory(stack: AsyncExitStack, directory: Path) -> Observatory:
    """Opens the files in `directory`. Raises `TelemetryUnusable` where that is not possible, and `OSError`."""
    await asyncio.to_thread(directory.mkdir, mode=0o700, exist_ok=True)
    usage_path, tails_path = directory / "usage.sqlite", directory / "tails.sqlite"
    meters, tails = Meters(), Tails(tails_path)
    recorder = Recorder(usage_path, meters)
    with _told_of(usage_path, "the tenants' usage is counted from zero"):
        await recorder.open()
    stack.push_async_callback(recorder.close)
    with _told_of(tails_path, "live tails have to be started again"):
        await tails.open()
    stack.push_async_callback(tails.close)
    return Observatory(meters, recorder, tails)


@contextmanager
def _told_of(path: Path, lost: str) -> Iterator[None]:
    try:
        yield
    except (apsw.Error, OSError) as error:
        raise TelemetryUnusable(
            f"{path} cannot be used: {error}. If it is damaged, move it away together with its "
            f"-wal and -shm files: then {lost}, and nothing else is lost."
        ) from error
