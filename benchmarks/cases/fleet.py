"""Many tenants, each with code of its own, in one data directory that several cases of a run share."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cloister import WORKERS, Cloister, built
from benchmarks.load import Request
from benchmarks.measure import Plan

_MARK = b"benchmark variant 0000000000"


def variant(component: bytes, number: int) -> bytes:
    """The hello worker with another text in it: to the platform, code that it has never seen.

    Builds of sources that differ in this text differ in the same bytes; this spares a build for each tenant.
    """
    if _MARK not in component:
        raise RuntimeError("the hello worker's component does not have its text in plain sight")
    return component.replace(_MARK, b"benchmark variant %010d" % number)


def name(number: int) -> str:
    return f"user{number}"


@dataclass
class Fleet:
    """Tenants user0, user1, … under `data`."""

    data: Path
    deployed: int = 0
    component: bytes = field(default=b"", repr=False)

    def grow(self, plan: Plan, server: Cloister, count: int) -> None:
        """Deploys until there are `count`."""
        self.component = self.component or built(WORKERS / "hello").read_bytes()
        for number in range(self.deployed, count):
            server.deploy(name(number), variant(self.component, number))
            self.deployed = number + 1
            if self.deployed % 50 == 0:
                plan.say(f"{self.deployed} tenants deployed")


_fleets: dict[Path, Fleet] = {}


def fleet(plan: Plan) -> Fleet:
    """The run's fleet."""
    return _fleets.setdefault(plan.directory, Fleet(plan.directory / "fleet"))


def requests(first: int, end: int) -> list[Request]:
    return [Request("/", headers={"X-User-ID": name(number)}) for number in range(first, end)]


def disk_bytes(directory: Path) -> int:
    """What the files of a directory take on disk."""
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            total += status.st_blocks * 512
    return total
