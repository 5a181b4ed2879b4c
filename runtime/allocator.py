"""What the C library's allocator does with memory that is free again."""

from __future__ import annotations

import ctypes

from runtime.settings import MIB

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

LARGE_BYTES = 8 * MIB
FREE_BYTES_MAX = 16 * MIB


def give_back_freed_memory() -> None:
    """From now on blocks above `LARGE_BYTES` go back to the system as soon as they are freed, and so does what is free
    at the end of a heap above `FREE_BYTES_MAX`.

    Left to itself glibc raises both bounds with the blocks that it sees, up to 32 and 64 MiB, for each of its heaps: a
    tenant that reads some values of 25 MB would leave hundreds of MB with the process. Does nothing where there is no
    `mallopt`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, FREE_BYTES_MAX)
