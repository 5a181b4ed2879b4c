"""What this process takes of the machine."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

_PAGE_BYTES = resource.getpagesize()


def process_gauges() -> dict[str, float]:
    """Resident memory (bytes), CPU time (seconds), open files, threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "process_cpu_seconds": used.ru_utime + used.ru_stime,
        "process_threads": float(threading.active_count()),
    }
    try:
        found["process_resident_bytes"] = float(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
        found["process_open_files"] = float(len(os.listdir("/proc/self/fd")))
    except OSError:
        # No /proc, or it may not be read: the peak is known in any case.
        found["process_resident_bytes"] = used.ru_maxrss * 1024.0
    return found
