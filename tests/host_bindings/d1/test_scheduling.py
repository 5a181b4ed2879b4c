"""Turns are shared fairly among owners, and the slow ones leave room for the quick."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from host_bindings.d1.limits import SqlLimits
from host_bindings.d1.scheduling import SLOW_MS, Owner, Pending, Queue, Schedule


def queue_of(owner: Owner, name: str = "d") -> Queue:
    return Queue(name, owner)


def run(schedule: Schedule, queue: Queue, seconds: float) -> None:
    """The queue's turn, after which it has something waiting again."""
    queue.owner.book(seconds)
    schedule.add(queue)


def test_owners_take_turns_whatever_the_number_of_their_databases() -> None:
    schedule = Schedule()
    greedy, modest = Owner("greedy"), Owner("modest")
    for number in range(10):
        schedule.add(queue_of(greedy, str(number)))
    schedule.add(queue_of(modest))
    turns: Counter[str] = Counter()

    for _ in range(100):
        queue = schedule.take(processes=1, slow_running=0)
        assert queue is not None
        turns[queue.owner.name] += 1
        run(schedule, queue, 0.001)

    assert abs(turns["greedy"] - turns["modest"]) <= 2


def test_an_owner_whose_turns_are_long_has_fewer() -> None:
    schedule = Schedule()
    for name in ("long", "short"):
        schedule.add(queue_of(Owner(name)))
    turns: Counter[str] = Counter()

    for _ in range(110):
        queue = schedule.take(processes=1, slow_running=0)
        assert queue is not None
        turns[queue.owner.name] += 1
        run(schedule, queue, 0.010 if queue.owner.name == "long" else 0.001)

    assert 8 <= turns["short"] / turns["long"] <= 12


def test_what_an_owner_did_not_use_is_not_saved_up() -> None:
    schedule = Schedule()
    busy, late = Owner("busy"), Owner("late")
    schedule.add(queue_of(busy))
    for _ in range(50):
        queue = schedule.take(processes=1, slow_running=0)
        assert queue is not None
        run(schedule, queue, 0.001)
    schedule.add(queue_of(late))
    turns: Counter[str] = Counter()

    for _ in range(20):
        queue = schedule.take(processes=1, slow_running=0)
        assert queue is not None
        turns[queue.owner.name] += 1
        run(schedule, queue, 0.001)

    assert abs(turns["busy"] - turns["late"]) <= 2


def test_a_slow_owner_does_not_get_the_last_process() -> None:
    schedule = Schedule()
    slow, quick = Owner("slow", mean_ms=SLOW_MS * 2), Owner("quick", used_s=100.0)
    schedule.add(queue_of(slow))
    schedule.add(queue_of(quick))

    queue = schedule.take(processes=3, slow_running=2)
    assert queue is not None
    assert queue.owner is quick
    assert schedule.take(processes=3, slow_running=2) is None
    assert schedule.take(processes=3, slow_running=1) is not None
    assert not schedule


def test_no_owner_holds_all_processes() -> None:
    schedule = Schedule()
    owner = Owner("one", running=2)
    schedule.add(queue_of(owner))

    assert schedule.take(processes=3, slow_running=0) is None
    owner.running = 1
    assert schedule.take(processes=3, slow_running=0) is not None


def test_an_owner_has_one_database_exported_imported_or_restored_at_a_time() -> None:
    schedule, owner = Schedule(), Owner("importer")
    imported, next_imported, asked = (queue_of(owner, name) for name in ("imported", "next imported", "asked"))

    async def fill() -> None:
        future = asyncio.get_running_loop().create_future()
        for queue in (imported, next_imported):
            queue.waiting.append(Pending("import", "", 0, future))
        asked.waiting.append(Pending("query", "", 0, future))

    asyncio.run(fill())
    for queue in (imported, next_imported, asked):
        schedule.add(queue)

    assert schedule.take(processes=4, slow_running=0) is imported
    owner.maintaining = True
    assert schedule.take(processes=4, slow_running=0) is asked
    assert schedule.take(processes=4, slow_running=0) is None
    owner.maintaining = False
    assert schedule.take(processes=4, slow_running=0) is next_imported


@pytest.fixture
def limits() -> SqlLimits:
    return replace(SqlLimits(), group_requests=3, group_bytes=100)


def test_a_group_has_a_bounded_number_and_size(limits: SqlLimits) -> None:
    async def check() -> None:
        loop = asyncio.get_running_loop()
        queue = queue_of(Owner("one"))
        for size in (10, 10, 10, 10, 200, 60, 60):
            queue.waiting.append(Pending("query", "", size, loop.create_future()))

        groups = [[pending.size for pending in queue.take_group(limits)] for _ in range(5)]

        assert groups == [[10, 10, 10], [10], [200], [60], [60]]

    asyncio.run(check())


def test_a_request_that_lost_its_process_once_goes_alone(limits: SqlLimits) -> None:
    async def check() -> None:
        loop = asyncio.get_running_loop()
        queue = queue_of(Owner("one"))
        for attempts in (0, 1, 0, 0):
            queue.waiting.append(Pending("query", "", 1, loop.create_future(), attempts=attempts))

        groups = [[pending.attempts for pending in queue.take_group(limits)] for _ in range(3)]

        assert groups == [[0], [1], [0, 0]]

    asyncio.run(check())


def test_who_has_gone_is_left_out_of_the_group(limits: SqlLimits) -> None:
    async def check() -> None:
        loop = asyncio.get_running_loop()
        queue = queue_of(Owner("one"))
        for gone in (True, False, True):
            queue.waiting.append(Pending("query", "", 1, loop.create_future()))
            if gone:
                queue.waiting[-1].future.cancel()

        assert len(queue.take_group(limits)) == 1
        assert not queue.waiting

    asyncio.run(check())
