"""`wasi:io/poll`: waiting. A guest that waits is suspended, and the event loop goes on.

There is no limit on how long a guest may wait here: the engine's wall-clock limit cancels the wait, at any point.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence

from host_bindings.context import GuestContext
from host_bindings.contract import U32, Bool, Borrow, HostFunction, Interface, ListOf
from host_bindings.wasi.errors import GuestTrap
from host_bindings.wasi.resources import POLLABLE

POLLABLES_MAX = 1024
"""The most that one call of `poll` may wait for."""

_NAP_MS_MAX = 3_600_000
_NS_PER_MS = 1_000_000


class Pollable:
    """Something to wait for. This one is always ready; `Timer` in clocks.py is the other kind."""

    def remaining_ns(self) -> int:
        """How long to wait before looking again; 0 when ready."""
        return 0

    def is_ready(self) -> bool:
        """By the clock that the guest sees, which may stand still."""
        return True


def ready(_: GuestContext, pollable: Pollable) -> bool:
    return pollable.is_ready()


def block(context: GuestContext, pollable: Pollable) -> Coroutine[None, None, None] | None:
    if pollable.remaining_ns() or context.frozen_clock:
        return _block(pollable)
    return None


def poll(context: GuestContext, pollables: Sequence[Pollable]) -> list[int] | Coroutine[None, None, list[int]]:
    """The positions of those that are ready; waits until there is one.

    With a frozen clock it waits in any case, if only for the others' turns: only then does the clock move on.
    """
    if not 1 <= len(pollables) <= POLLABLES_MAX:
        raise GuestTrap(f"poll takes 1 to {POLLABLES_MAX} pollables, not {len(pollables)}.")
    positions = None if context.frozen_clock else _ready(pollables)
    return positions or _wait(pollables)


async def _block(pollable: Pollable) -> None:
    await _wait((pollable,))


async def _wait(pollables: Sequence[Pollable]) -> list[int]:
    await asyncio.sleep(0)
    while not (positions := _ready(pollables)):
        remaining_ns = min(pollable.remaining_ns() for pollable in pollables)
        # Whole milliseconds, rounded up: the event loop's timers may be no finer, and would spin.
        await asyncio.sleep(min(-(-remaining_ns // _NS_PER_MS), _NAP_MS_MAX) / 1000)
    return positions


def _ready(pollables: Sequence[Pollable]) -> list[int]:
    return [position for position, pollable in enumerate(pollables) if pollable.remaining_ns() == 0]


INTERFACE = Interface(
    "wasi:io/poll@0.2.0",
    functions=(
        HostFunction("[method]pollable.ready", (Borrow(POLLABLE),), Bool, ready),
        HostFunction("[method]pollable.block", (Borrow(POLLABLE),), None, block, may_wait=True),
        HostFunction("poll", (ListOf(Borrow(POLLABLE)),), ListOf(U32), poll, may_wait=True),
    ),
    resources=(POLLABLE,),
)
