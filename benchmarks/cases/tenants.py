"""Many tenants in one process: requests, latency, memory and disk as their number grows, beside workerd."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.cases.fleet import Fleet, disk_bytes, fleet, name, requests
from benchmarks.cases.hello import is_hello
from benchmarks.cloister import WORKERS, Cloister, cloister
from benchmarks.load import Request
from benchmarks.measure import CLOISTER, Contender, Goal, Plan, Row, compare, row
from benchmarks.peers import workerd

COUNTS = (1, 10, 100, 1000)
WARM = 100
WORKERD_TENANTS_MAX = 100
"""workerd takes 16 MB for each of them, and all at once."""
CONNECTIONS = 32
MIB = 1024 * 1024


def tenants(plan: Plan) -> Iterator[Row]:
    """1, 10, 100 and 1,000 tenants behind one dispatcher."""
    shared = fleet(plan)
    for count in counts(plan):
        with ExitStack() as stack:
            server = stack.enter_context(cloister(data=shared.data, empty=not plan.smoke))
            shared.grow(plan, server, count)
            yield _disk(f"tenants/{count}/disk", server, count)
            if count <= WARM:
                yield from _all_warm(plan, stack, server, count)
            else:
                yield from _few_warm(plan, stack, server, count)


def counts(plan: Plan) -> list[int]:
    """1, 10, 100, 1,000, as far as the plan goes; its own greatest number instead of what lies beyond."""
    if plan.smoke:
        return [plan.tenants_max]
    return [*(count for count in COUNTS if count < plan.tenants_max), plan.tenants_max]


def _all_warm(plan: Plan, stack: ExitStack, server: Cloister, count: int) -> Iterator[Row]:
    contenders: dict[str, Contender | None] = {CLOISTER: Contender(server, requests(0, count), is_hello)}
    if count <= WORKERD_TENANTS_MAX:
        peer = plan.start(stack, "workerd", partial(workerd, tenants=count))
        contenders["workerd"] = None if peer is None else Contender(peer, requests(0, count), is_hello)
    samples = compare(plan, contenders, connections=CONNECTIONS)
    judged = count == WARM
    yield row(f"tenants/{count}/requests", samples, goal=Goal(2, "workerd") if judged else None)
    yield row(f"tenants/{count}/p99", samples, "p99_ms", goal=Goal(1 / 3, "workerd", at_most=True) if judged else None)
    yield memory(f"tenants/{count}/memory", contenders, Goal(0.5, "workerd", at_most=True) if judged else None)


def _few_warm(plan: Plan, stack: ExitStack, server: Cloister, count: int) -> Iterator[Row]:
    """All are asked once, then `WARM` of them are kept busy; beside them a platform that has one tenant."""
    asleep = server.memory_bytes()
    for number in range(count):
        server.request("/", user=name(number))
    plan.say(f"each of {count} tenants asked once")
    touched = server.memory_bytes()
    alone = stack.enter_context(cloister())
    alone.deploy_directory(WORKERS / "hello")
    contenders = {
        CLOISTER: Contender(server, requests(0, WARM), is_hello),
        "cloister, one tenant": Contender(alone, [Request("/", headers={"X-User-ID": "hello"})], is_hello),
    }
    samples = compare(plan, contenders, connections=CONNECTIONS)
    yield row(f"tenants/{count}/warm-p50", samples, "p50_ms", goal=Goal(1.3, "cloister, one tenant", at_most=True))
    yield row(f"tenants/{count}/warm-requests", samples)
    yield row(f"tenants/{count}/warm-p99", samples, "p99_ms")
    spread = compare(plan, {CLOISTER: Contender(server, requests(0, count), is_hello)}, connections=CONNECTIONS)
    yield row(f"tenants/{count}/spread-requests", spread, note="over all tenants")
    yield row(f"tenants/{count}/spread-p99", spread, "p99_ms", note="over all tenants")
    note = f"none asked {asleep / MIB:,.0f} MiB, each asked once {touched / MIB:,.0f} MiB"
    goal = Goal(1228.8, at_most=True) if count == COUNTS[-1] else None
    yield Row(f"tenants/{count}/memory", "MiB", (server.memory_bytes() / MIB,), goal=goal, note=note)


def memory(case: str, contenders: dict[str, Contender | None], goal: Goal | None) -> Row:
    """What the servers hold after their load."""
    held = {name: (c.server.memory_bytes() / MIB,) for name, c in contenders.items() if c is not None}
    own = held.pop(CLOISTER)
    return Row(case, "MiB", own, held, goal)


def _disk(case: str, server: Cloister, count: int) -> Row:
    """What is kept at rest for each tenant; the cache of machine code has a bound of its own."""
    code = disk_bytes(server.data / "artifacts" / "machine-code")
    kept = disk_bytes(server.data) - code
    goal = Goal(4, at_most=True) if count >= WARM else None
    return Row(case, "MiB/tenant", (kept / count / MIB,), goal=goal, note=f"and {code / MIB:,.0f} MiB of machine code")


def cold(plan: Plan) -> Iterator[Row]:
    """The first request to tenants that have been deployed and have no instance."""
    count = 3 if plan.smoke else 40
    with ExitStack() as stack:
        server = stack.enter_context(cloister())
        own = Fleet(server.data)
        own.grow(plan, server, count)
        first_ms = sorted(server.request("/", user=name(number))[1] for number in range(count))
        again_ms = sorted(server.request("/", user=name(number))[1] for number in range(count))
    note = f"{count} tenants; the same again, warm: {statistics.median(again_ms):.2f} ms"
    yield Row("cold/p50", "ms", (statistics.median(first_ms),), goal=Goal(5, at_most=True), note=note)
    slowest = first_ms[int(count * 0.99)]
    yield Row("cold/p99", "ms", (slowest,), goal=Goal(20, at_most=True), note=f"the slowest of {count}")
    yield from _outside_cache(plan, count)


def _outside_cache(plan: Plan, count: int) -> Iterator[Row]:
    """The same where the machine code of each tenant has left the cache on disk."""
    with tempfile.TemporaryDirectory(dir=plan.directory) as directory:
        own = Fleet(Path(directory))
        with cloister(data=own.data) as server:
            own.grow(plan, server, count)
        codes = own.data / "artifacts" / "machine-code"
        long_ago = time.time() - 3600
        evicted = [entry.parent for entry in codes.glob("*/*/code") if entry.stat().st_size < MIB]
        for entry in evicted:
            os.utime(entry, (long_ago, long_ago))
        with cloister(data=own.data, settings={"code_cache_bytes": 1}) as server:
            own.grow(plan, server, count + 1)
            if len([entry for entry in evicted if entry.exists()]) > len(evicted) - count:
                raise RuntimeError("machine code is still in the cache")
            first_ms = sorted(server.request("/", user=name(number))[1] for number in range(count))
    note = f"median of {count} tenants, the slowest {first_ms[-1]:.0f} ms"
    yield Row("cold/outside-cache", "ms", (statistics.median(first_ms),), goal=Goal(80, at_most=True), note=note)
