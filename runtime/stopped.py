"""Which script versions have been stopped since they crashed server processes, for every room of the runtime to know.

The supervisor decides and keeps the record; a server process holds a copy that it is sent. A stop concerns one version:
another one that is deployed runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from runtime.private_files import replace

STOPS_KEPT = 1000
"""Of more the oldest are forgotten."""


class StoppedScript(msgspec.Struct, frozen=True):
    """A version that is not run any more. `stopped_ms` is milliseconds since 1970; `reason` is for people."""

    namespace: str
    script: str
    version: str
    stopped_ms: int
    reason: str


class StoppedScripts:
    """The stops that are in force. Belongs to one thread."""

    def __init__(self, stops: Iterable[StoppedScript] = ()) -> None:
        self._stops = {stop.version: stop for stop in stops}
        self._callbacks: list[Callable[[], None]] = []
        self._ask_to_start: Callable[[StoppedScript], None] | None = None

    def find(self, version: str) -> StoppedScript | None:
        return self._stops.get(version)

    def all(self) -> tuple[StoppedScript, ...]:
        """Oldest first."""
        return tuple(self._stops.values())

    def replace(self, stops: Iterable[StoppedScript]) -> None:
        """Takes the whole list anew and calls the subscribers back."""
        self._stops = {stop.version: stop for stop in stops}
        for callback in self._callbacks:
            callback()

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Calls back after each change, when `find` gives the new state."""
        self._callbacks.append(callback)

    def asks(self, ask: Callable[[StoppedScript], None]) -> None:
        """`ask` asks whoever keeps the record to take a stop off it."""
        self._ask_to_start = ask

    def start(self, version: str) -> bool:
        """Lets a stopped version run again, here at once, elsewhere soon. False if it was not stopped."""
        stop = self._stops.get(version)
        if stop is None:
            return False
        self.replace([other for other in self._stops.values() if other is not stop])
        if self._ask_to_start is not None:
            self._ask_to_start(stop)
        return True


def load_stops(path: Path) -> tuple[StoppedScript, ...]:
    """What `save_stops` has kept; nothing if there is no such file. Raises `OSError` and `msgspec.MsgspecError`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[StoppedScript, ...])
    except FileNotFoundError:
        return ()


def save_stops(path: Path, stops: Iterable[StoppedScript]) -> None:
    """Keeps the newest stops; they are on disk when this returns. Raises `OSError`."""
    replace(path, msgspec.json.encode(list(stops)[-STOPS_KEPT:]))
