"""How many requests a tenant may have in a second: a bucket that refills all the time, one for all server processes."""

from __future__ import annotations

import mmap
import os
from hashlib import blake2b

COUNTERS_MAX = 4096
"""Counters in use at the same time in one process; who comes later has none, and is counted in each process alone."""

_PLACES = 64
"""A name's counter is in one of so many places in a row."""

_FREED = 1
"""In the place of a name: a counter that is nobody's any more; what was put behind it is still found."""

_USE_SHIFT = 48
"""Above these bits of a count is a number of the counter's use: another process, or pool, begins anew."""

_WORDS = 2 * COUNTERS_MAX
_PROCESS_BYTES = 8 * _WORDS


class SharedCounts:
    """How many requests each server process has let in, by name, in memory that all of them see.

    Each process writes to its own part alone and reads the others', so there is nothing to lock. A part is a hash table
    of (name's hash, count) in pairs of words.
    """

    def __init__(self, descriptor: int, index: int, processes: int) -> None:
        """`descriptor` is a file of `shared_bytes(processes)` bytes; this process is the one with that index."""
        self._memory = mmap.mmap(descriptor, shared_bytes(processes))
        parts = [memoryview(self._memory)[i * _PROCESS_BYTES : (i + 1) * _PROCESS_BYTES] for i in range(processes)]
        self.own = parts.pop(index).cast("Q")
        self.others = [part.cast("Q") for part in parts]
        # What a process before this one had counted, which crashed.
        self.own[:] = memoryview(bytes(_PROCESS_BYTES)).cast("Q")

    def counter(self, name: str) -> SharedCounter | None:
        """A counter for the name; None if there are too many. `close` it when it is not needed any more."""
        key = max(_FREED + 1, int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little"))
        for place in _places(key):
            if self.own[place] <= _FREED:
                self.own[place + 1] = (int.from_bytes(os.urandom(2), "little") | 1) << _USE_SHIFT
                self.own[place] = key
                return SharedCounter(self, key, place)
        return None


class SharedCounter:
    """One name's count."""

    def __init__(self, counts: SharedCounts, key: int, place: int) -> None:
        self._own = counts.own
        self._others = counts.others
        self._key = key
        self._place = place
        self._first = _places(key)[0]
        self._seen: list[tuple[int, int]] = [(place, 0)] * len(counts.others)
        """By other process: where its counter was last, and how far it was."""
        self.take_elsewhere()

    def count(self) -> None:
        """A request has been let in here."""
        self._own[self._place + 1] += 1

    def take_elsewhere(self) -> int:
        """How many have been let in by the other processes since the last time this was asked."""
        found = 0
        for index, other in enumerate(self._others):
            if not other[self._first]:
                continue  # this name has never been in use there
            place, before = self._seen[index]
            if other[place] != self._key:
                place = next((each for each in _places(self._key) if other[each] in (self._key, 0)), place)
                if other[place] != self._key:
                    continue
            now = other[place + 1]
            if now >> _USE_SHIFT != before >> _USE_SHIFT:
                before = now >> _USE_SHIFT << _USE_SHIFT
            found += now - before
            self._seen[index] = place, now
        return found

    def close(self) -> None:
        self._own[self._place] = _FREED


def _places(key: int) -> range:
    start = key % (COUNTERS_MAX - _PLACES) * 2
    return range(start, start + 2 * _PLACES, 2)


def shared_bytes(processes: int) -> int:
    return processes * _PROCESS_BYTES


def new_counts_file(processes: int) -> int:
    """A descriptor of counts of nothing, to be given to child processes."""
    descriptor = os.memfd_create("rates", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, shared_bytes(processes))
    return descriptor


class RequestRate:
    """Lets `per_s` requests a second through; up to a second's worth may come at once."""

    __slots__ = ("_credit", "_per_s", "_refilled", "_shared")

    def __init__(self, per_s: int, now: float, shared: SharedCounter | None = None) -> None:
        """`shared` counts for other processes and says what they have let through."""
        self._per_s = per_s
        self._credit = float(per_s)
        self._refilled = now
        self._shared = shared

    def take(self, now: float) -> float:
        """0 if a request may pass at `now` (seconds, never going back); else how long to wait before the next may."""
        if now > self._refilled:
            self._credit = min(self._per_s, self._credit + (now - self._refilled) * self._per_s)
            self._refilled = now
        if self._shared is not None:
            self._credit -= self._shared.take_elsewhere()
        if self._credit < 1:
            return (1 - self._credit) / self._per_s
        self._credit -= 1
        if self._shared is not None:
            self._shared.count()
        return 0.0

    def close(self) -> None:
        """Gives the counter back; what comes now is counted here alone."""
        if self._shared is not None:
            self._shared.close()
            self._shared = None
