"""Bodies: objects through a tenant down and up, what they take of the server's memory, and bytes that a guest reads."""

from __future__ import annotations

import secrets
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks.cases.platform import as_user, form, seed, send, start_platform
from benchmarks.cloister import WORKERS, Cloister, cloister
from benchmarks.measure import CLOISTER, Goal, Plan, Row, alternate
from benchmarks.peers import Server, bare_aiohttp, miniflare_platform

KIB, MIB = 1024, 1024 * 1024
SIZES = {"1KiB": KIB, "10KiB": 10 * KIB, "100KiB": 100 * KIB, "1MiB": MIB, "10MiB": 10 * MIB}
LARGEST = "10MiB"
IN_FLIGHT = 8


def bodies(plan: Plan) -> Iterator[Row]:
    """An object of the tenant's bucket down and up, one after the other on one connection at a time."""
    with ExitStack() as stack:
        server = start_platform(stack)
        bare = plan.start(stack, "aiohttp", partial(bare_aiohttp, plan.directory))
        peer = plan.start(stack, "miniflare", miniflare_platform)
        platforms: dict[str, Server] = {CLOISTER: server} | ({} if peer is None else {"miniflare": peer})
        for each in platforms.values():
            seed(each, SIZES)
        for name in SIZES:
            (plan.directory / name).write_bytes(secrets.token_bytes(SIZES[name]))
        for name in plan.some(tuple(SIZES)):
            yield from _rows(plan, "down", name, _downloads(platforms, bare, name))
        for name in plan.some(tuple(SIZES)):
            yield from _rows(plan, "up", name, _uploads(platforms, bare, SIZES[name]))


def _rows(plan: Plan, way: str, name: str, transfers: dict[str, Callable[[], bytes]]) -> Iterator[Row]:
    plan.say(f"bodies: {way} {name}")
    rates = alternate(plan, {who: partial(_rate, plan, send_one, SIZES[name]) for who, send_one in transfers.items()})
    own = rates.pop(CLOISTER)
    judged = name == LARGEST
    yield Row(f"bodies/{way}/{name}", "MiB/s", own, rates, Goal(0.7, "aiohttp") if judged else None)
    if judged:
        beside = {who: rate for who, rate in rates.items() if who == "miniflare"}
        yield Row(f"bodies/{way}/{name}/miniflare", "MiB/s", own, beside, Goal(1, "miniflare"))


def _downloads(platforms: dict[str, Server], bare: Server | None, name: str) -> dict[str, Callable[[], bytes]]:
    made: dict[str, Callable[[], bytes]] = {
        who: partial(send, server, "GET", f"/files?key={name}", as_user("user1")) for who, server in platforms.items()
    }
    return made if bare is None else made | {"aiohttp": partial(send, bare, "GET", f"/file/{name}", {})}


def _uploads(platforms: dict[str, Server], bare: Server | None, size: int) -> dict[str, Callable[[], bytes]]:
    content = secrets.token_bytes(size)
    body, content_type = form("upload", content)
    headers = as_user("user1") | {"Content-Type": content_type}
    made: dict[str, Callable[[], bytes]] = {
        who: partial(send, server, "POST", "/files", headers, body) for who, server in platforms.items()
    }
    return made if bare is None else made | {"aiohttp": partial(send, bare, "PUT", "/upload", {}, content)}


def _rate(plan: Plan, send_one: Callable[[], bytes], size: int) -> float:
    """MiB/s of transfers one after the other; the median of them, so that one hiccup does not count."""
    send_one()
    times: list[float] = []
    end = time.perf_counter() + (0 if plan.smoke else plan.seconds)
    while not times or time.perf_counter() < end:
        started = time.perf_counter()
        send_one()
        times.append(time.perf_counter() - started)
    return size / statistics.median(times) / MIB


def bodies_memory(plan: Plan) -> Iterator[Row]:
    """What a request with a large body that does not get on takes of the server's memory, down and up."""
    head = f"GET /files?key={LARGEST} HTTP/1.1\r\nHost: bench\r\nX-User-ID: user1\r\n\r\n".encode()
    yield _memory_in_flight(plan, "bodies-memory/down", head, "callers that stop reading")
    body, content_type = form("half", secrets.token_bytes(10 * MIB))
    fields = f"X-User-ID: user1\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}"
    half = f"POST /files HTTP/1.1\r\nHost: bench\r\n{fields}\r\n\r\n".encode() + body[: len(body) // 2]
    yield _memory_in_flight(plan, "bodies-memory/up", half, "callers that stop half-way")


def _memory_in_flight(plan: Plan, name: str, sent: bytes, note: str) -> Row:
    """What the first such requests on a fresh server take, with any instances that they need.

    Later ones reuse what the allocator and the pool have kept: that they take nothing more proves little.
    """
    with ExitStack() as stack:
        server = start_platform(stack)
        seed(server, {LARGEST: SIZES[LARGEST]})
        grown = _growth_of(plan, server, sent)
        again = _growth_of(plan, server, sent)
    note = f"{IN_FLIGHT} {note}, the first on a fresh server; the same again: {again / IN_FLIGHT / MIB:.2f}"
    return Row(name, "MiB/request", (grown / IN_FLIGHT / MIB,), goal=Goal(2, at_most=True), note=note)


def _growth_of(plan: Plan, server: Cloister, sent: bytes) -> int:
    pause_s = 0.3 if plan.smoke else 1.0
    before = server.memory_bytes()
    connections = []
    try:
        for _ in range(IN_FLIGHT):
            connection = socket.create_connection(("127.0.0.1", server.port))
            connections.append(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
            connection.sendall(sent)
        time.sleep(pause_s)
        return server.memory_bytes() - before
    finally:
        for connection in connections:
            connection.close()
        time.sleep(pause_s / 2)


def guest_body(plan: Plan) -> Iterator[Row]:
    """1 MiB of random bytes that the guest reads and returns: the CPU time of the server for each."""
    count = 3 if plan.smoke else 20
    with cloister() as server:
        server.deploy_directory(WORKERS / "probe")
        content = secrets.token_bytes(MIB)

        def spend() -> float:
            before = server.cpu_s()
            for _ in range(count):
                answer, _ = server.request("/bytes", user="probe", method="POST", body=content)
                if answer != content:
                    raise RuntimeError("the guest returned other bytes than it was sent")
            return (server.cpu_s() - before) * 1000 / count

        spend()
        values = tuple(spend() for _ in range(plan.rounds))
    yield Row("guest-body/1MiB", "ms CPU", values, goal=Goal(15, at_most=True))
