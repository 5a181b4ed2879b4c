"""Whose guest runs now, and that the event loop turns: in memory that outlives the process.

One event loop runs one guest at a time. Before it lets one run it writes the number of its label here, and takes it
away afterwards; so when a process dies, whoever shares the memory (a supervisor) can tell who was running. Nothing here
needs wasmtime.
"""

from __future__ import annotations

import mmap
import os
import time

LABEL_BYTES_MAX = 252
LABELS_MAX = 4096
"""Labels in use at the same time; who comes later has none."""

_LABEL_ROOM = 4 + LABEL_BYTES_MAX
_HEAD_BYTES = 64
TABLE_BYTES = _HEAD_BYTES + LABELS_MAX * _LABEL_ROOM

_RUNNING, _BEAT = 0, 1


class RunningTable:
    """The writer's side. `running[0] = number` says that a guest of that label runs, 0 that none does.

    `descriptor` is a file of `TABLE_BYTES` zeros to share; without one the table is this process' own.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._memory = mmap.mmap(-1 if descriptor is None else descriptor, TABLE_BYTES)
        self.running = memoryview(self._memory)[:_HEAD_BYTES].cast("Q")
        self._free = list(range(LABELS_MAX - 1, 0, -1))

    def add(self, label: str) -> int:
        """A number for the label; 0, which is nobody's, when there are too many."""
        if not self._free:
            return 0
        number = self._free.pop()
        encoded = label.encode("utf-8", "replace")[:LABEL_BYTES_MAX]
        start = _HEAD_BYTES + number * _LABEL_ROOM
        self._memory[start : start + 4 + len(encoded)] = len(encoded).to_bytes(4, "little") + encoded
        return number

    def remove(self, number: int) -> None:
        """The label will not be written any more."""
        if number:
            self._free.append(number)

    def beat(self) -> None:
        """Tells that the event loop turns."""
        self.running[_BEAT] = time.monotonic_ns()


class RunningView:
    """The reader's side of a table in a file."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, TABLE_BYTES, prot=mmap.PROT_READ)

    @property
    def label(self) -> str:
        """Whose guest runs, or ran when the process died; empty: no one's."""
        number = self._word(_RUNNING)
        if not 0 < number < LABELS_MAX:
            return ""
        start = _HEAD_BYTES + number * _LABEL_ROOM
        length = int.from_bytes(self._memory[start : start + 4], "little")
        return self._memory[start + 4 : start + 4 + min(length, LABEL_BYTES_MAX)].decode("utf-8", "replace")

    @property
    def beat_ns(self) -> int:
        """When the event loop turned last, by the monotonic clock; 0 if it has not yet."""
        return self._word(_BEAT)

    def close(self) -> None:
        self._memory.close()

    def _word(self, index: int) -> int:
        return int.from_bytes(self._memory[index * 8 : index * 8 + 8], "little")


def new_table_file() -> int:
    """A descriptor of an empty table, to be given to a child process."""
    descriptor = os.memfd_create("running", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, TABLE_BYTES)
    return descriptor
