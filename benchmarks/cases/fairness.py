"""A quiet tenant beside one that has a hundred endless loops in flight: what becomes of its latency."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.cloister import WORKERS, Cloister, cloister
from benchmarks.measure import Goal, Plan, Row

LOOPS = 100
PAUSE_S = 0.003
"""Between two requests of the quiet tenant."""
QUIET = "quiet"


def fairness(plan: Plan) -> Iterator[Row]:
    """One request after another, without the loops and beside them in turn."""
    calls = 50 if plan.smoke else round(plan.seconds / PAUSE_S)
    quiet: list[list[float]] = []
    beside: list[list[float]] = []
    with cloister() as server:
        limits = {"cpu_ms": 300_000, "wall_ms": 3_600_000, "instances_max": LOOPS}
        server.deploy_directory(WORKERS / "probe", limits=limits)
        server.deploy_directory(WORKERS / "hello")
        for _ in range(max(1, plan.rounds)):
            quiet.append(_latencies_ms(server, calls))
            with _loops(server):
                beside.append(_latencies_ms(server, calls))
    note = f"{LOOPS} endless loops of another tenant, {calls} requests in each round"
    for percent in (50, 99):
        values = tuple(_percentile(latencies, percent) for latencies in beside)
        peers = {QUIET: tuple(_percentile(latencies, percent) for latencies in quiet)}
        goal = Goal(5, QUIET, at_most=True) if percent == 99 else None
        yield Row(f"fairness/p{percent}", "ms", values, peers, goal, note=note)


def _percentile(latencies_ms: list[float], percent: int) -> float:
    return sorted(latencies_ms)[min(len(latencies_ms) - 1, round(len(latencies_ms) * percent / 100))]


def _latencies_ms(server: Cloister, calls: int) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    found: list[float] = []
    try:
        for _ in range(calls + 10):
            started = time.perf_counter()
            connection.request("GET", "/", headers={"X-User-ID": "hello"})
            answer = connection.getresponse()
            answer.read()
            found.append((time.perf_counter() - started) * 1000)
            if answer.status != 200:
                raise RuntimeError(f"the quiet tenant got {answer.status}")
            time.sleep(PAUSE_S)
    finally:
        connection.close()
    return found[10:]


@contextmanager
def _loops(server: Cloister) -> Iterator[None]:
    """They end when their callers leave."""
    with ExitStack() as stack:
        for _ in range(LOOPS):
            caller = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            caller.sendall(b"GET /loop HTTP/1.1\r\nHost: a\r\nX-User-ID: probe\r\n\r\n")
        time.sleep(1)
        yield
    time.sleep(0.5)
