"""Clocks and pollables: time is coarse, and waiting never holds up the event loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from host_bindings.context import GuestContext
from host_bindings.scope import Scope
from host_bindings.wasi import GuestTrap, cli, clocks, poll, streams

MS = 1_000_000
U64_MAX = 2**64 - 1


def test_the_wall_clock_tells_the_time_in_whole_steps(guest):
    before_ns = time.time_ns()
    seconds, nanoseconds = clocks.wall_now(guest.context)
    after_ns = time.time_ns()

    assert before_ns - clocks.RESOLUTION_NS <= seconds * 10**9 + nanoseconds <= after_ns
    assert nanoseconds % clocks.RESOLUTION_NS == 0


def test_the_monotonic_clock_never_goes_back_and_moves_in_whole_steps(guest):
    readings = [clocks.monotonic_now(guest.context) for _ in range(1000)]

    assert readings == sorted(readings)
    assert all(reading % clocks.RESOLUTION_NS == 0 for reading in readings)


def test_the_monotonic_clock_does_not_tell_how_long_the_host_has_been_up(guest):
    a_day_ns = 24 * 3600 * 10**9

    assert a_day_ns <= clocks.monotonic_now(guest.context) < a_day_ns + 60 * 10**9


def test_both_clocks_name_their_resolution(guest):
    assert clocks.monotonic_resolution(guest.context) == clocks.RESOLUTION_NS
    assert clocks.wall_resolution(guest.context) == (0, clocks.RESOLUTION_NS)


def test_a_timer_is_ready_exactly_when_the_clock_has_reached_it(guest):
    when_ns = clocks.monotonic_now(guest.context) + 3 * MS + 1
    timer = clocks.subscribe_instant(guest.context, when_ns)

    ready = False
    while not ready:
        before_ns = clocks.monotonic_now(guest.context)
        ready = poll.ready(guest.context, timer)
        after_ns = clocks.monotonic_now(guest.context)

        assert ready or before_ns < when_ns
        assert after_ns >= when_ns or not ready


@pytest.mark.parametrize("duration_ns", [0, 1, 5 * MS])
def test_blocking_on_a_timer_waits_at_least_as_long_by_the_guests_clock(guest, duration_ns):
    async def block() -> int:
        before_ns = clocks.monotonic_now(guest.context)
        waiting = poll.block(guest.context, clocks.subscribe_duration(guest.context, duration_ns))
        if waiting is not None:
            await waiting
        return clocks.monotonic_now(guest.context) - before_ns

    assert asyncio.run(block()) >= duration_ns


def test_an_instant_that_has_passed_is_ready(guest):
    past = clocks.monotonic_now(guest.context) - 1

    assert poll.ready(guest.context, clocks.subscribe_instant(guest.context, past))
    assert poll.block(guest.context, clocks.subscribe_instant(guest.context, 0)) is None


def test_poll_gives_the_positions_of_what_is_ready_without_waiting(guest):
    late = clocks.subscribe_duration(guest.context, U64_MAX)
    stdin = streams.subscribe(guest.context, cli.stdin(guest.context))
    stdout = streams.subscribe(guest.context, cli.stdout(guest.context))

    assert poll.poll(guest.context, [late, stdin, late, stdout]) == [1, 3]


def test_poll_waits_for_the_first(guest):
    async def wait() -> list[int]:
        late = clocks.subscribe_duration(guest.context, U64_MAX)
        soon = clocks.subscribe_duration(guest.context, 2 * MS)
        waiting = poll.poll(guest.context, [late, soon])
        assert not isinstance(waiting, list)
        return await waiting

    assert asyncio.run(wait()) == [1]


def test_the_event_loop_goes_on_while_guests_wait():
    async def wait() -> int:
        contexts = [GuestContext(Scope({}, {}), lambda level, message: None) for _ in range(100)]
        waits = [poll.block(each, clocks.subscribe_duration(each, 20 * MS)) for each in contexts]
        results = await asyncio.gather(*[each for each in waits if each is not None])
        return len(results)

    start = time.monotonic()
    assert asyncio.run(wait()) == 100
    assert time.monotonic() - start < 100 * 0.02


@pytest.mark.parametrize("duration_ns", [10**18, U64_MAX])
def test_a_wait_of_years_can_be_ended(guest, duration_ns):
    async def cancel() -> None:
        waiting = poll.block(guest.context, clocks.subscribe_duration(guest.context, duration_ns))
        assert waiting is not None
        task = asyncio.ensure_future(waiting)
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())


def test_poll_of_nothing_or_of_too_much_is_a_trap(guest):
    with pytest.raises(GuestTrap):
        poll.poll(guest.context, [])
    with pytest.raises(GuestTrap):
        poll.poll(guest.context, [poll.Pollable()] * (poll.POLLABLES_MAX + 1))
