"""Where a small request's microseconds go: each layer driven in this process, without sockets and other programs' load.

`python -m benchmarks.layers` prints CPU time per request of the main thread, the least of many batches. "http" answers
with a fixed text, "pool" calls the worker without HTTP, "whole" does both with the dispatcher between them; "guest" is
what `pool` spends in wasm. Under load from sockets each of them takes longer: see docs/performance.md.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.cases.hello import json_of
from benchmarks.cloister import WORKERS, cloister
from host_bindings import interfaces
from host_bindings.d1.service import SqlService
from host_bindings.scope import Resources
from host_bindings.wasi.console import flush
from runtime.artifacts import ArtifactStore, UploadLimits
from runtime.dispatcher.dispatcher import Dispatcher
from runtime.dispatcher.exchange import Exchange
from runtime.dispatcher.http import AtOnce, Handler, HttpServer
from runtime.dispatcher.namespace import DispatchNamespace
from runtime.dispatcher.resolver import HeaderResolver
from runtime.engine.engine import Engine
from runtime.registry import Registry
from runtime.settings import ServerSettings

CONNECTIONS = 32
BATCHES = 50
REQUESTS = 256

URL, HEADERS = "http://127.0.0.1/", "host: 127.0.0.1\n"


class Discarding(asyncio.Transport):
    """Counts the answers that are written, each in one piece."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not bytes(data[:12]) == b"HTTP/1.1 200":
            raise RuntimeError(f"a wrong answer: {bytes(data)!r}")
        self.answers += 1

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass


def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="cloister-bench-") as directory:
        data = Path(directory)
        with cloister(data=data) as server:
            for worker in ("hello", "echo"):
                server.deploy_directory(WORKERS / worker)
        shutil.rmtree(data / "logs", ignore_errors=True)
        asyncio.run(measure(data))


async def measure(data: Path) -> None:
    async with AsyncExitStack() as stack:
        namespace = await _namespace(stack, data)
        dispatcher = Dispatcher(namespace, HeaderResolver(), body_bytes_max=1 << 20)
        print(f"http    hello      {await _over_http(_unused, _fixed, b'', 'hello'):8.1f} us")
        for worker, text in (("hello", ""), ("echo", json_of(1024)), ("echo", json_of(10 * 1024))):
            label = f"{worker:5s} {len(text):5d}"
            pool_us, guest_us = await _without_http(namespace, worker, text)
            print(f"guest   {label}{guest_us:8.1f} us")
            print(f"pool    {label}{pool_us:8.1f} us")
            whole_us = await _over_http(dispatcher.handle, dispatcher.answer_at_once, text.encode(), worker)
            print(f"whole   {label}{whole_us:8.1f} us")


async def _namespace(stack: AsyncExitStack, data: Path) -> DispatchNamespace:
    settings = ServerSettings(data=data)
    registry = Registry(settings.registry_path)
    await registry.open()
    stack.push_async_callback(registry.close)
    artifacts = ArtifactStore(settings.artifacts_directory, UploadLimits(upload_bytes_max=settings.upload_bytes_max))
    stack.push_async_callback(artifacts.close)
    sql = SqlService(settings.resources_directory)
    stack.push_async_callback(sql.close)
    resources = Resources(settings.resources_directory, sql)
    stack.push_async_callback(resources.close)
    engine = Engine(interfaces.ALL, flush)
    stack.push_async_callback(engine.close)
    namespace = DispatchNamespace(
        settings.namespace, registry, artifacts, engine, resources, lambda _script, _limits: lambda *_: None
    )
    stack.push_async_callback(namespace.close)
    return namespace


async def _without_http(namespace: DispatchNamespace, worker: str, text: str) -> tuple[float, float]:
    """Microseconds of a call, and of the guest in it."""
    count = REQUESTS if len(text) < 5000 else 32
    calls_us: list[float] = []
    guest_us: list[float] = []
    for _ in range(BATCHES + 1):
        started_ns, guest_ms = time.thread_time_ns(), 0.0
        for _ in range(count):
            answer = await namespace.fetch(worker, "POST", URL, HEADERS, text or None, request_id="r")
            guest_ms += answer.cpu_ms
        calls_us.append((time.thread_time_ns() - started_ns) / 1000 / count)
        guest_us.append(guest_ms * 1000 / count)
    return min(calls_us), min(guest_us)


async def _over_http(handler: Handler, at_once: AtOnce, body: bytes, worker: str) -> float:
    server = HttpServer(handler, at_once=at_once)
    connections = [(server(), Discarding()) for _ in range(CONNECTIONS)]
    for protocol, transport in connections:
        protocol.connection_made(transport)
    await asyncio.sleep(0.01)
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-User-ID: {worker}\r\nContent-Length: {len(body)}\r\n\r\n"
    request, answered = head.encode() + body, 0
    found_us: list[float] = []
    rounds = REQUESTS // CONNECTIONS if len(body) < 5000 else 1
    for _ in range(BATCHES + 1):
        started_ns = time.thread_time_ns()
        for _ in range(rounds):
            for protocol, _ in connections:
                protocol.data_received(request)
            answered += CONNECTIONS
            while sum(transport.answers for _, transport in connections) < answered:  # noqa: ASYNC110
                await asyncio.sleep(0)
        found_us.append((time.thread_time_ns() - started_ns) / 1000 / rounds / CONNECTIONS)
    for protocol, _ in connections:
        protocol.connection_lost(None)
    return min(found_us)


async def _unused(exchange: Exchange) -> Exchange:
    raise AssertionError("everything is answered at once")


def _fixed(exchange: Exchange) -> bytes:
    exchange.url()
    exchange.header_text(b"x-user-id")
    return b"".join(exchange.rendered(200, "content-type: text/plain\n", "hello", "r"))


if __name__ == "__main__":
    main()
