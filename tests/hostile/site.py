"""A server under attack, and what an attack must leave as it was."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.e2e.server import ROOT, Reply, Server, start
from tests.hostile import bystander
from tests.hostile.bystander import Bystander
from tests.hostile.footprint import Footprint, footprint

T = TypeVar("T")

P99_FACTOR = 5
P99_FLOOR_MS = 250.0
"""A percentile below this is good enough whatever the quiet one was: the tests' machine may be busy with other tests,
and a scheduler that gives the server no processor for a while is no fault of the server's. What this is to find is a
server that stands still for as long as an attack takes, which is longer."""
ATTEMPTS = 3
"""An attack that holds the server up does so each time; what the machine does besides will not."""

MEMORY_BYTES_TOLERANCE = 80 * 1024 * 1024
"""Below the memory of one instance at its limit. Allocators keep some of what they had, and so do pools."""
DESCRIPTORS_TOLERANCE = 24
THREADS_TOLERANCE = 16
"""Pools of threads fill up to their bounds and stay so."""
SETTLE_S = 30.0

STORAGE: tuple[Mapping[str, object], ...] = (
    {"type": "kv_namespace", "name": "KV", "namespace_id": "kv"},
    {"type": "r2_bucket", "name": "FILES", "bucket_name": "files"},
    {"type": "d1", "name": "DB", "id": "db"},
)

_DOCUMENTED = re.compile(r"^\| (\d{3}) \| (`.*?`) \|", re.MULTILINE)


class Site:
    """A running server with a bystander. Made by `open_site`."""

    def __init__(self, server: Server, component: bytes) -> None:
        self.server = server
        self.component = component
        self.deploy(bystander.NAME)
        self.bystander = Bystander(server)
        quiet = self.bystander.quiet()
        assert not quiet.wrong, quiet.wrong
        self.quiet_p99_ms = quiet.p99_ms
        self.measured: list[tuple[str, float]] = []

    def deploy(
        self,
        name: str,
        bindings: Sequence[Mapping[str, object]] = STORAGE,
        component: bytes | None = None,
        **limits: object,
    ) -> None:
        """Deploys the hostile worker, or another component, with these limits."""
        reply = self.server.deploy(name, self.component if component is None else component, bindings, limits=limits)
        assert reply.status == 200, reply.text

    def call(self, user: str, attack: str, *, body: bytes | str | None = None, **headers: str) -> Reply:
        return self.server.request("POST" if body is not None else "GET", f"/{attack}", user=user, body=body)

    def footprint(self) -> Footprint:
        return footprint(self.server.process.pid)

    def attack(self, strike: Callable[[], T]) -> T:
        """What `strike` gives. Fails if others had to suffer for it: see `harmless`."""
        with self.harmless() as attempt:
            result = attempt(strike)
        return result

    @contextmanager
    def harmless(self) -> Iterator[Callable[[Callable[[], T]], T]]:
        """Gives a function that carries an attack out beside the bystander, and checks around it: the bystander's
        answers stay right and soon, memory, descriptors and threads come back, and no process that serves has been
        replaced."""
        before = self.footprint()

        def attempt(strike: Callable[[], T]) -> T:
            bound_ms = max(P99_FACTOR * self.quiet_p99_ms, P99_FLOOR_MS)
            p99_ms = []
            for _ in range(ATTEMPTS):
                with self.bystander.calling() as calls:
                    result = strike()
                assert not calls.wrong, calls.wrong
                p99_ms.append(calls.p99_ms)
                if calls.p99_ms <= bound_ms:
                    return result
            raise AssertionError(f"the bystander's p99 was {p99_ms} ms each time, above {bound_ms:.0f} ms")

        yield attempt
        self._settle(before)
        assert self.server.process.poll() is None, "the server has ended"
        assert self.footprint().servers == before.servers, "a process that serves has been replaced"

    def _settle(self, before: Footprint) -> None:
        deadline = time.monotonic() + SETTLE_S
        while grown := self.footprint().exceeds(
            before,
            memory_bytes=MEMORY_BYTES_TOLERANCE,
            descriptors=DESCRIPTORS_TOLERANCE,
            threads=THREADS_TOLERANCE,
        ):
            assert time.monotonic() < deadline, f"after the attack {grown}"
            time.sleep(0.1)

    def log_entries(self, tenant: str) -> list[Any]:
        """What is in the log of a tenant."""
        return self._lines("tenant", tenant)

    def access_lines(self, tenant: str) -> list[Any]:
        """The lines of a tenant's requests."""
        return self._lines("access", tenant)

    def _lines(self, logger: str, tenant: str) -> list[Any]:
        lines = self.server.log.read_text(errors="replace").splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if entry.get("logger") == logger and entry.get("tenant") == tenant]

    def logged(self, tenant: str, text: str) -> bool:
        """Whether a tenant's log has a line with this text. Lines are written soon, not at once."""
        deadline = time.monotonic() + 10
        while not (found := any(text in entry["message"] for entry in self.log_entries(tenant))):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        return found


def check_refused(reply: Reply, status: int, code: str) -> None:
    """The answer is this error, and the operator's page has it."""
    assert (reply.status, reply.json()["code"]) == (status, code), reply.text
    assert reply.json()["error"]
    assert (status, code) in documented_errors(), f"{status} {code} is not in docs/operator.md"
    assert set(reply.json()) == {"error", "code"}


def documented_errors() -> set[tuple[int, str]]:
    page = (ROOT / "docs/operator.md").read_text(encoding="utf-8")
    return {(int(status), code) for status, codes in _DOCUMENTED.findall(page) for code in re.findall("`(.*?)`", codes)}


@contextmanager
def open_site(data: Path, component: bytes, **settings: object) -> Iterator[Site]:
    with start(data, **settings) as server:
        yield Site(server, component)
