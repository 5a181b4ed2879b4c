"""`wasi:clocks`: the time of day and a monotonic clock, both coarse, and timers.

Both clocks advance in steps of `RESOLUTION_NS`, and timers fire on those steps, counted from them: nothing here tells
a guest the time more finely than `now` does. That makes cache and speculation side channels slower and noisier to
use, not impossible: a guest can count loop iterations between two steps, or time its host calls. Tenants that must be
safe from each other's measurements need separate processes, or machines.

A tenant's clocks can be frozen besides (`clock: "frozen"` in its limits): then they stand still while the guest
computes, and move on with each call and after each host call that waited, so that nothing between can be measured.

The monotonic clock of each instance has its own origin, so that it tells neither how long the host has been up nor
that two tenants share it.
"""

from __future__ import annotations

import time
from typing import cast

from host_bindings.context import GuestContext
from host_bindings.contract import U64, HostFunction, Interface, Own
from host_bindings.wasi.poll import Pollable
from host_bindings.wasi.resources import DATETIME, POLLABLE

RESOLUTION_NS = 1_000_000

_NS_PER_S = 1_000_000_000
_FIRST_READING_NS = 24 * 3600 * _NS_PER_S
"""Not 0: programs take the clock's zero for "long ago", as on a machine that has been up for some time."""

_MONOTONIC = "wasi.monotonic"


class MonotonicClock:
    """An instance's monotonic clock, in ns."""

    def __init__(self, context: GuestContext) -> None:
        self._context = context
        self._origin_ns = time.monotonic_ns() - _FIRST_READING_NS

    def now_ns(self) -> int:
        """The time, rounded down to the last step."""
        elapsed_ns = _read(self._context)[0] - self._origin_ns
        return elapsed_ns - elapsed_ns % RESOLUTION_NS

    def until_ns(self, when_ns: int) -> int:
        """How long it takes until `now_ns` is at least `when_ns`; 0 if it is already."""
        step_ns = -(-when_ns // RESOLUTION_NS) * RESOLUTION_NS
        return max(0, step_ns - (time.monotonic_ns() - self._origin_ns))


class Timer(Pollable):
    """Ready from the moment `when_ns` on, by its clock."""

    def __init__(self, clock: MonotonicClock, when_ns: int) -> None:
        self._clock = clock
        self._when_ns = when_ns

    def remaining_ns(self) -> int:
        return self._clock.until_ns(self._when_ns)

    def is_ready(self) -> bool:
        return self._clock.now_ns() >= self._when_ns


def monotonic_now(context: GuestContext) -> int:
    return _clock(context).now_ns()


def monotonic_resolution(_: GuestContext) -> int:
    return RESOLUTION_NS


def subscribe_instant(context: GuestContext, when_ns: int) -> Pollable:
    return Timer(_clock(context), when_ns)


def subscribe_duration(context: GuestContext, duration_ns: int) -> Pollable:
    clock = _clock(context)
    return Timer(clock, clock.now_ns() + duration_ns)


def wall_now(context: GuestContext) -> tuple[int, int]:
    now_ns = _read(context)[1]
    return divmod(now_ns - now_ns % RESOLUTION_NS, _NS_PER_S)


def wall_resolution(_: GuestContext) -> tuple[int, int]:
    return divmod(RESOLUTION_NS, _NS_PER_S)


def _clock(context: GuestContext) -> MonotonicClock:
    clock = context.state.get(_MONOTONIC)
    if clock is None:
        clock = context.state[_MONOTONIC] = MonotonicClock(context)
    return cast(MonotonicClock, clock)


def _read(context: GuestContext) -> tuple[int, int]:
    """The host's clocks, (monotonic, since 1970), as far as this guest may see them."""
    if not context.frozen_clock:
        return time.monotonic_ns(), time.time_ns()
    if context.clock_ns is None:
        context.clock_ns = time.monotonic_ns(), time.time_ns()
    return context.clock_ns


INTERFACES = (
    Interface(
        "wasi:clocks/monotonic-clock@0.2.0",
        functions=(
            HostFunction("now", (), U64, monotonic_now),
            HostFunction("resolution", (), U64, monotonic_resolution),
            HostFunction("subscribe-instant", (U64,), Own(POLLABLE), subscribe_instant),
            HostFunction("subscribe-duration", (U64,), Own(POLLABLE), subscribe_duration),
        ),
        resources=(POLLABLE,),
    ),
    Interface(
        "wasi:clocks/wall-clock@0.2.0",
        functions=(
            HostFunction("now", (), DATETIME, wall_now),
            HostFunction("resolution", (), DATETIME, wall_resolution),
        ),
    ),
)
