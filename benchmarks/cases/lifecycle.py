"""A tenant's and a server's beginnings: deploys, fresh instances for every request, the start with many tenants."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks.cases.fleet import fleet, name, variant
from benchmarks.cases.hello import is_hello
from benchmarks.cloister import ROOT, WORKERS, built, cloister
from benchmarks.load import Request
from benchmarks.measure import CLOISTER, Contender, Goal, Plan, Row, check, compare, row
from benchmarks.peers import Server, free_port, workerd

CONNECTIONS = 8
START_S_MAX = 300


def deploy(plan: Plan) -> Iterator[Row]:
    """From the first byte of the upload to the tenant's first answer; each tenant has code of its own."""
    component = built(WORKERS / "hello").read_bytes()
    later = 1 if plan.smoke else 10
    first_s: list[float] = []
    later_s: list[float] = []
    for _ in range(1 if plan.smoke else min(plan.rounds, 3)):
        with cloister(empty=True) as server:
            for number in range(1 + later):
                own = variant(component, number)
                started = time.perf_counter()
                server.deploy(name(number), own)
                server.request("/", user=name(number))
                (later_s if number else first_s).append(time.perf_counter() - started)
    yield Row("deploy/first", "s", tuple(first_s), goal=Goal(8, at_most=True))
    yield Row("deploy/later", "s", tuple(later_s), goal=Goal(0.5, at_most=True))


def isolation(plan: Plan) -> Iterator[Row]:
    """A fresh instance for every request, and that nothing is left in it from the one before."""
    with ExitStack() as stack:
        server = stack.enter_context(cloister())
        server.deploy_directory(WORKERS / "hello", limits={"isolation": "request"})
        server.deploy_directory(WORKERS / "probe", limits={"isolation": "request"})
        for _ in range(5):
            counted, _ = server.request("/", user="probe")
            if counted != b"1":
                raise RuntimeError(f"an instance that should be fresh has had {counted!r} calls")
        asked = [Request("/", headers={"X-User-ID": "hello"})]
        peer = plan.start(stack, "workerd", workerd)
        beside = None if peer is None else Contender(peer, asked, is_hello)
        samples = compare(
            plan, {CLOISTER: Contender(server, asked, is_hello), "workerd": beside}, connections=CONNECTIONS
        )
    a_core = tuple(1e6 / sample.cpu_us for sample in samples[CLOISTER])
    yield Row("isolation/a-core", "requests/CPU-s", a_core, goal=Goal(600))
    yield row("isolation/requests", samples, note="workerd's isolate is not a fresh one")
    yield row("isolation/p99", samples, "p99_ms")


def start(plan: Plan) -> Iterator[Row]:
    """`just serve`, the real one with its demo tenants, in a data directory with many tenants."""
    shared = fleet(plan)
    count = plan.tenants_max
    with cloister(data=shared.data, empty=not plan.smoke) as server:
        shared.grow(plan, server, count)
    _serve_until_ready(shared.data)  # builds and deploys the demo tenants
    values = tuple(_serve_until_ready(shared.data) for _ in range(plan.rounds))
    yield Row("start/just-serve", "s", values, goal=Goal(3, at_most=True), note=f"{count} tenants")


def _serve_until_ready(data: Path) -> float:
    """Seconds until it says that it is ready."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CLOISTER_")}
    environment: Mapping[str, str] = kept | {"CLOISTER_DATA": str(data)}
    port = free_port()
    ports = ["--port", str(port), "--admin-port", str(free_port())]
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(ROOT / "just"), "serve", *ports],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if " is ready " in line:
                elapsed_s = time.perf_counter() - started
                demo = Contender(
                    Server(f"http://127.0.0.1:{port}/", process.pid), (), lambda answer: b"user1" in answer
                )
                check("just serve", demo, Request("/", headers={"X-User-ID": "user1"}))
                return elapsed_s
        raise RuntimeError(f"just serve ended with {process.wait()} before it was ready")
    finally:
        process.stdout.close()
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the recipe and the server, which are in a session of their own."""
    os.killpg(process.pid, 15)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
