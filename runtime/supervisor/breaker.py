"""The circuit breaker: a worker that was running each time when server processes crashed is stopped.

What counts is only who was running on the event loop at the moment of the crash; a worker that merely had requests in
flight is not blamed for another's crash.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from runtime.settings import SettingsError
from runtime.stopped import StoppedScript, load_stops, save_stops

CRASH_WINDOW_S = 600.0

_log = logging.getLogger(__name__)


class Breaker:
    """Counts crashes and keeps the record of stops in a file, which only it writes. Blocks on the disk, rarely."""

    def __init__(self, path: Path, crashes_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises `SettingsError` if the record cannot be read."""
        self._path = path
        self._crashes_max = crashes_max
        self._clock = clock
        self._crashes: defaultdict[str, deque[float]] = defaultdict(deque)
        try:
            self._stops = list(load_stops(path))
        except (OSError, msgspec.MsgspecError) as error:
            raise SettingsError(
                f"data: {path} cannot be read ({error}); it says which workers are stopped. Put it right or delete it"
            ) from error

    @property
    def stops(self) -> list[StoppedScript]:
        return list(self._stops)

    def crashed(self, label: str, cause: str) -> StoppedScript | None:
        """Counts a crash while a guest of this label ran; the stop, if that was one too many."""
        namespace, script, version = label.split("/", 2)
        now = self._clock()
        crashes = self._crashes[version]
        crashes.append(now)
        while now - crashes[0] > CRASH_WINDOW_S:
            crashes.popleft()
        if not self._crashes_max or len(crashes) < self._crashes_max:
            return None
        del self._crashes[version]
        reason = (
            f"It was running when a server process crashed, {len(crashes)} times within "
            f"{CRASH_WINDOW_S / 60:.0f} minutes; the last time: {cause}."
        )
        stop = StoppedScript(namespace, script, version, int(time.time() * 1000), reason)
        self._replace([*(other for other in self._stops if other.version != version), stop])
        return stop

    def start(self, version: str) -> StoppedScript | None:
        """Takes a stop off the record; None if there was none."""
        found = next((stop for stop in self._stops if stop.version == version), None)
        if found is not None:
            self._replace([stop for stop in self._stops if stop is not found])
        return found

    def _replace(self, stops: list[StoppedScript]) -> None:
        self._stops = stops
        try:
            save_stops(self._path, stops)
        except OSError as error:
            # It is in force all the same, until the supervisor ends.
            _log.error("The record of stopped workers could not be written: %s", error)
