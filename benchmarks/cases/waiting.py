"""A thousand requests that all wait at the same time, and what becomes of those that are too many."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp

from benchmarks.cloister import WORKERS, Cloister, cloister
from benchmarks.measure import Goal, Plan, Row

IN_FLIGHT = 1000
WATCH_S = 0.05
MIB = 1024 * 1024


@dataclass(frozen=True)
class Wave:
    """Requests sent at the same time: answers by status, those with Retry-After, s until all were answered."""

    statuses: Counter[int]
    retry_after: int
    seconds: float
    anonymous_bytes_max: int
    """While they waited: of instances that are idle afterwards the engine closes some at once."""


def waiting(plan: Plan) -> Iterator[Row]:
    """Each request waits 1 s in a host call."""
    count = 50 if plan.smoke else IN_FLIGHT
    with cloister() as server:
        server.deploy_directory(WORKERS / "probe", limits={"instances_max": count, "queue_max": 0})
        server.request("/", user="probe")
        before = server.anonymous_bytes()
        waves = [asyncio.run(_wave(server, count)) for _ in range(1 if plan.smoke else 1 + plan.rounds)]
    for wave in waves:
        if wave.statuses != {200: count}:
            raise RuntimeError(f"of {count} requests that wait: {dict(wave.statuses)}")
    goal = Goal(2.5, at_most=True)
    first, *later = waves
    yield Row("in-flight/cold", "s", (first.seconds,), goal=goal, note=f"{count} requests, all instances new")
    if later:
        yield Row("in-flight/warm", "s", tuple(wave.seconds for wave in later), note="the same again, after a pause")
    grown = max(wave.anonymous_bytes_max for wave in waves) - before
    note = f"{grown / MIB:,.0f} MiB at the peak; each request that waits has an instance"
    yield Row("in-flight/memory", "MiB/request", (grown / count / MIB,), note=note)
    yield from _capped(count)


def _capped(count: int) -> Iterator[Row]:
    """Instances for half of the requests, a queue for a quarter of them."""
    instances, queue = count // 2, count // 4
    with cloister() as server:
        server.deploy_directory(WORKERS / "probe", limits={"instances_max": instances, "queue_max": queue})
        wave = asyncio.run(_wave(server, count))
    refused = wave.statuses[503]
    if wave.statuses[200] != instances + queue or wave.retry_after != refused or refused != count - instances - queue:
        raise RuntimeError(f"with {instances} instances and {queue} places: {wave}")
    note = f"{instances} instances and a queue of {queue}: {refused} of {count} got 503 with Retry-After"
    yield Row("in-flight/capped", "s", (wave.seconds,), note=note)


async def _wave(server: Cloister, count: int) -> Wave:
    statuses: Counter[int] = Counter()
    retry_after = 0

    highest = 0

    async def watch() -> None:
        nonlocal highest
        while True:
            highest = max(highest, server.anonymous_bytes())
            await asyncio.sleep(WATCH_S)

    async def one(session: aiohttp.ClientSession) -> None:
        nonlocal retry_after
        async with session.get(server.url + "wait", headers={"X-User-ID": "probe"}) as answer:
            await answer.read()
            statuses[answer.status] += 1
            retry_after += "Retry-After" in answer.headers

    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        started = time.perf_counter()
        requests = [asyncio.create_task(one(session)) for _ in range(count)]
        watching = asyncio.create_task(watch())
        await asyncio.gather(*requests)
        seconds = time.perf_counter() - started
        watching.cancel()
    return Wave(statuses, retry_after, seconds, highest)
