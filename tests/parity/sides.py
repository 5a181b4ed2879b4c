"""Both sides, each in processes of its own, and the comparison of what they answer."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from guest_sdk.build import build, read_configuration
from host_bindings import WIT_DIRECTORY
from tests.e2e.server import start
from tests.parity.normalise import first_difference

HERE = Path(__file__).parent
GUEST = HERE / "guest"
PLAIN, JS_TYPES = "parity", "parity-js"
"""The tenants: the same component, with and without the compatibility flag d1_js_types."""
STOP_S = 20
ANSWER_S = 110
LIMITS = {"cpu_ms": 100_000, "wall_ms": 110_000, "memory_bytes": 1024 * 1024 * 1024, "host_calls_max": 1_000_000}

Operation = Mapping[str, Any]
Result = dict[str, Any]
Side = Callable[[Sequence[Operation]], list[Result]]


class Parity:
    """Runs operations on both sides: `parity(operations)`."""

    def __init__(self, binding: str, cloister: Side, miniflare: Side, pool: ThreadPoolExecutor) -> None:
        self.binding = binding
        self.cloister = cloister
        self.miniflare = miniflare
        self._pool = pool

    def __call__(self, operations: Sequence[Operation]) -> list[Result]:
        """Cloister's results, which Miniflare's are like. Raises AssertionError with the first that is not."""
        here, there = self.both(operations)
        difference = first_difference(self.binding, operations, here, there)
        assert difference is None, difference
        return here

    def both(self, operations: Sequence[Operation]) -> tuple[list[Result], list[Result]]:
        """Cloister's results and Miniflare's, as they are."""
        there = self._pool.submit(self.miniflare, operations)
        here = self.cloister(operations)
        return here, there.result()


class Sides:
    """Both servers, running. Made by `both_sides`."""

    def __init__(self, cloister: Callable[[str, str], Side], miniflare: Callable[[str], Side]) -> None:
        self._cloister = cloister
        self._miniflare = miniflare
        self._pool = ThreadPoolExecutor(1)

    def parity(self, binding: str, *, js_types: bool = False) -> Parity:
        """Runs operations on one binding: "kv", "r2", "d1". `js_types`: on Cloister with the flag `d1_js_types`."""
        here = self._cloister(binding, JS_TYPES if js_types else PLAIN)
        return Parity(f"{binding}-js" if js_types else binding, here, self._miniflare(binding), self._pool)


@contextmanager
def both_sides(installation: Path, data: Path) -> Iterator[Sides]:
    """Starts both sides, with storage in `data`."""
    with ExitStack() as stack:
        there = stack.enter_context(_miniflare(installation, data))
        here = stack.enter_context(_cloister(data))
        yield Sides(here, there)


@contextmanager
def _miniflare(installation: Path, data: Path) -> Iterator[Callable[[str], Side]]:
    temporary = data / "miniflare"
    temporary.mkdir(parents=True)
    command = ["node", str(HERE / "worker" / "serve.mjs"), str(installation)]
    with (
        (data / "miniflare.log").open("w+") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary)},
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                log.seek(0)
                raise RuntimeError(f"Miniflare did not start:\n{log.read()}")
            yield lambda binding: partial(_send, url, binding, {})
        finally:
            process.stdin.close()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def _cloister(data: Path) -> Iterator[Callable[[str, str], Side]]:
    component = build(GUEST, wit_directory=WIT_DIRECTORY).read_bytes()
    with start(data / "cloister") as server:
        bindings = read_configuration(GUEST).bindings
        for tenant, flags in ((PLAIN, []), (JS_TYPES, ["d1_js_types"])):
            reply = server.deploy(tenant, component, bindings, limits=LIMITS, compatibility_flags=flags)
            assert reply.status == 200, reply.text
        url = f"http://127.0.0.1:{server.port}/"
        yield lambda binding, tenant: partial(_send, url, binding, {"X-User-ID": tenant})


def _send(url: str, binding: str, headers: Mapping[str, str], operations: Sequence[Operation]) -> list[Result]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_S)
    try:
        connection.request("POST", f"/{binding}", json.dumps(operations).encode(), dict(headers))
        with connection.getresponse() as answer:
            content = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} {content[:2000]!r}")
    finally:
        connection.close()
    results: list[Result] = json.loads(content)
    return results
