"""What a host function may know about the instance that calls it.

The engine makes one `GuestContext` for each instance and hands it to every host function that the instance calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from host_bindings.body import Payload

if TYPE_CHECKING:
    from host_bindings.scope import Scope


PRINTED_BYTES_MAX = 256 * 1024
"""What one call may print, unless the tenant has another limit."""


class Invocation(Protocol):
    """The call that an instance is handling right now."""

    def respond(self, status: int, headers: str, body: Payload) -> None:
        """Answers before the export returns. Raises `Failure` if the call has been answered or cannot be."""

    def wait_until(self) -> None:
        """The call has work that goes on when its caller leaves."""


LogWriter = Callable[[str, str], None]
"""Takes a level (debug, info, warn, error) and a message. Bounds what it keeps."""


@dataclass(slots=True)
class GuestContext:
    """An instance as its host functions see it. `invocation` is None while no export runs (start-up)."""

    scope: Scope
    log: LogWriter
    invocation: Invocation | None = None
    printed_bytes_max: int = PRINTED_BYTES_MAX
    """What one call may print."""
    frozen_clock: bool = False
    """Whether the clocks stand still while the guest computes: until the next call, or a host call that waits."""
    clock_ns: tuple[int, int] | None = None
    """Where they stand, (monotonic, since 1970); None: to be read anew."""
    state: dict[str, object] = field(default_factory=dict)
    """Room for a capability to keep something for the life of the instance (WASI's streams, say)."""
