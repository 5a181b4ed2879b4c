"""One tenant: hello as fast as it goes, its latency with one connection, and JSON that the guest parses and answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.cloister import WORKERS, Cloister, cloister
from benchmarks.load import Request
from benchmarks.measure import CLOISTER, Contender, Goal, Plan, Row, compare, row
from benchmarks.peers import Server, bare_aiohttp, workerd

CONNECTIONS = 32


def one_tenant(plan: Plan) -> Iterator[Row]:
    """`fetch` of one Python tenant beside one JavaScript worker without dispatch and beside no worker at all."""
    with ExitStack() as stack:
        servers = _servers(plan, stack, "hello")
        contenders = _contenders(servers, [Request("/", headers={"X-User-ID": "hello"})], is_hello)
        busy = compare(plan, contenders, connections=CONNECTIONS)
        yield row("one-tenant/workerd", busy, goal=Goal(0.9, "workerd"))
        yield row("one-tenant/aiohttp", busy, goal=Goal(0.45, "aiohttp"))
        yield row("one-tenant/p99", busy, "p99_ms")
        alone = compare(plan, contenders, connections=1)
        yield row("one-tenant/latency", alone, "p50_ms", goal=Goal(2, "aiohttp", at_most=True))


def echo(plan: Plan) -> Iterator[Row]:
    """The guest parses a JSON body and answers with it."""
    with ExitStack() as stack:
        servers = _servers(plan, stack, "echo")
        for name, size in plan.some((("1KiB", 1024), ("10KiB", 10 * 1024))):
            body = json_of(size)
            headers = {"X-User-ID": "echo", "Content-Type": "application/json"}
            contenders = _contenders(servers, [Request("/echo", "POST", headers, body)], partial(_is_json, body))
            samples = compare(plan, contenders, connections=CONNECTIONS)
            yield row(f"echo/{name}", samples, goal=Goal(0.8, "workerd"))


def access_log(plan: Plan) -> Iterator[Row]:
    """What the access log, which every other case has switched off, costs."""
    with ExitStack() as stack:
        quiet = stack.enter_context(cloister())
        talking = stack.enter_context(cloister(settings={"access_log": "on"}))
        for server in (quiet, talking):
            server.deploy_directory(WORKERS / "hello")
        asked = [Request("/", headers={"X-User-ID": "hello"})]
        contenders = {
            CLOISTER: Contender(talking, asked, is_hello),
            "cloister without": Contender(quiet, asked, is_hello),
        }
        samples = compare(plan, contenders, connections=CONNECTIONS)
        yield row("access-log/on", samples)


def groups(plan: Plan) -> Iterator[Row]:
    """What it costs to pass a request on to the group of tenants that has its worker, on this one machine."""
    with ExitStack() as stack:
        behind = stack.enter_context(cloister())
        behind.deploy_directory(WORKERS / "hello")
        front = stack.enter_context(cloister(settings={"upstream": f"http://127.0.0.1:{behind.port}"}))
        asked = [Request("/", headers={"X-User-ID": "hello"})]
        contenders = {
            CLOISTER: Contender(front, asked, is_hello),
            "cloister without": Contender(behind, asked, is_hello),
        }
        yield row("groups/passed-on", compare(plan, contenders, connections=CONNECTIONS))
        alone = compare(plan, contenders, connections=1)
        yield row("groups/latency", alone, "p50_ms")


def json_of(size: int) -> str:
    """A JSON object of about `size` bytes, of the kinds of values that requests have."""
    records: list[dict[str, object]] = []
    text = ""
    while len(text) < size:
        number = len(records)
        records.append(
            {"id": number, "name": f"record {number}", "price": number * 1.25, "tags": ["a", "b"], "on": True}
        )
        text = json.dumps({"records": records})
    return text


def _servers(plan: Plan, stack: ExitStack, worker: str) -> Mapping[str, Server | None]:
    server: Cloister = stack.enter_context(cloister())
    server.deploy_directory(WORKERS / worker)
    return {
        CLOISTER: server,
        "workerd": plan.start(stack, "workerd", partial(workerd, (f"{worker}.js",))),
        "aiohttp": plan.start(stack, "aiohttp", partial(bare_aiohttp, plan.directory)),
    }


def _contenders(
    servers: Mapping[str, Server | None], requests: Sequence[Request], is_right: Callable[[bytes], bool]
) -> dict[str, Contender | None]:
    return {who: None if at is None else Contender(at, requests, is_right) for who, at in servers.items()}


def is_hello(answer: bytes) -> bool:
    return answer == b"hello"


def _is_json(text: str, answer: bytes) -> bool:
    return bool(json.loads(answer) == json.loads(text))
