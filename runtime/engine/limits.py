"""What one tenant's worker may use."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

MIB = 1024 * 1024


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of a worker version, per request unless it says otherwise. The annotations are the bounds."""

    cpu_ms: Annotated[int, msgspec.Meta(ge=1, le=300_000)] = 5_000
    """Thread CPU time of the guest and of the host functions that it calls."""
    wall_ms: Annotated[int, msgspec.Meta(ge=1, le=3_600_000)] = 30_000
    """From the start of the call to its end, work after the answer included."""
    memory_bytes: Annotated[int, msgspec.Meta(ge=16 * MIB, le=4096 * MIB)] = 128 * MIB
    """The guest's linear memory, for each instance."""
    instances_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 32
    """Instances, and so requests that run at the same time, in each server process."""
    queue_max: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 1_000
    """Requests that may wait for an instance; one more is refused."""
    host_calls_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    """Calls of the contract's functions (not WASI's)."""
    isolation: Literal["reuse", "request"] = "reuse"
    """`reuse`: an instance serves one request after another; `request`: every request gets a fresh one."""
