"""What a server takes of its machine, read from /proc: its own process and those that it has started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

SHORT_LIVED = ("host_bindings.d1.process", "runtime.compilation.child")
"""What runs tenants' SQL and compiles uploads: processes that are there to be killed."""


@dataclass(frozen=True)
class Footprint:
    """Of the processes that serve, together. `memory_bytes` is what is theirs alone, without files that are mapped."""

    memory_bytes: int
    descriptors: int
    threads: int
    servers: frozenset[tuple[int, str]]
    """(process id, start time): another one in its place is not the same."""

    def exceeds(self, before: Footprint, *, memory_bytes: int, descriptors: int, threads: int) -> str | None:
        """What has grown by more than is allowed, in words."""
        for name, allowed in (("memory_bytes", memory_bytes), ("descriptors", descriptors), ("threads", threads)):
            then, now = getattr(before, name), getattr(self, name)
            if now > then + allowed:
                return f"{name} went from {then:,} to {now:,}"
        return None


def footprint(root: int) -> Footprint:
    """Of the process `root` and its descendants that serve."""
    memory_bytes = descriptors = threads = 0
    servers = set()
    for process in _tree(root):
        try:
            if any(name in (PROC / str(process) / "cmdline").read_text() for name in SHORT_LIVED):
                continue
            status = dict(line.split(":", 1) for line in (PROC / str(process) / "status").read_text().splitlines())
            memory_bytes += int(status["RssAnon"].split()[0]) * 1024
            threads += int(status["Threads"])
            descriptors += len(os.listdir(PROC / str(process) / "fd"))
            servers.add((process, _stat(process)[19]))
        except (FileNotFoundError, ProcessLookupError, KeyError):
            continue  # it has just ended
    return Footprint(memory_bytes, descriptors, threads, frozenset(servers))


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, waiting = [], [root]
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += children.get(process, [])
    return found


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: state, parent, …, start time."""
    return (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
