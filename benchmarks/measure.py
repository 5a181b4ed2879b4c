"""How a case measures: contenders in turn, A B A B, and rows of medians, spread and ratios with their goals."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from benchmarks import load
from benchmarks.peers import PeerMissing, Server, machine_cpu_s
from benchmarks.provenance import code_digest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

T = TypeVar("T")

CLOISTER = "cloister"

WATCH_S = 0.2

DISTURBED_CORES = 0.2
"""From how much of a processor that other programs took a wall-clock figure is not to be trusted. On two cores of
which one makes the load, less than this leaves the server its own."""


@dataclass(frozen=True)
class Plan:
    """How long and how often to measure, and up to how many tenants."""

    seconds: float
    rounds: int
    tenants_max: int
    smoke: bool
    directory: Path
    """For what a case makes on disk; deleted after the run."""
    say: Callable[[str], None]
    missing: dict[str, str] = field(default_factory=dict)
    """Peers that cannot be run here, and what they need."""

    def start(self, stack: ExitStack, name: str, peer: Callable[[], AbstractContextManager[Server]]) -> Server | None:
        """A peer that runs until the stack is closed; None if it cannot be run here."""
        if name in self.missing:
            return None
        try:
            return stack.enter_context(peer())
        except PeerMissing as error:
            self.missing[name] = str(error)
            return None

    def some(self, values: Sequence[T]) -> Sequence[T]:
        """All of the values, or in a smoke run one."""
        return values[-1:] if self.smoke else values


@dataclass(frozen=True)
class Goal:
    """`number` times the yardstick `of`, or `number` itself in the row's unit."""

    number: float
    of: str | None = None
    at_most: bool = False

    def __str__(self) -> str:
        return (
            f"{'at most' if self.at_most else 'at least'} {round(self.number, 2):g}{f' x {self.of}' if self.of else ''}"
        )

    def met(self, value: float) -> bool:
        return value <= self.number if self.at_most else value >= self.number


@dataclass(frozen=True)
class Row:
    """A line of the table: what was measured in each round, beside the yardsticks' same rounds."""

    name: str
    unit: str
    values: tuple[float, ...]
    yardsticks: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    goal: Goal | None = None
    note: str = ""
    cpu_us: Mapping[str, float] = field(default_factory=dict)
    """CPU time a request of each server's processes, medians. A busy machine moves it too (caches, shared cores), but
    much less than wall-clock figures."""
    foreign_cores: float | None = None
    """How many processors other programs took meanwhile; the worst round's. None: not watched."""
    code: str = ""
    """The digest of the code under test; "changing" if it changed while this was measured."""

    @property
    def disturbed(self) -> bool:
        return (self.foreign_cores or 0.0) > DISTURBED_CORES

    @property
    def cpu_ratio(self) -> float | None:
        """How many times the yardstick's CPU time a request takes: below 1 is better."""
        of = self.compared_with
        own = self.cpu_us.get(CLOISTER)
        return own / self.cpu_us[of] if own and self.cpu_us.get(of) else None

    @property
    def compared_with(self) -> str:
        return self.goal.of if self.goal and self.goal.of else next(iter(self.yardsticks), "")

    @property
    def value(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """From the lowest to the highest, as a share of the median."""
        return (max(self.values) - min(self.values)) / self.value if self.value else None

    def yardstick(self, name: str) -> float | None:
        values = self.yardsticks.get(name)
        return statistics.median(values) if values else None

    @property
    def ratio(self) -> float | None:
        """To the goal's yardstick, or to the only one: the median of the rounds' ratios, which a machine whose speed
        wanders between rounds disturbs less than the ratio of medians."""
        pairs = zip(self.values, self.yardsticks.get(self.compared_with, ()), strict=False)
        ratios = [value / other for value, other in pairs if other]
        return statistics.median(ratios) if ratios else None

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        compared = self.ratio if self.goal.of else self.value
        return None if compared is None else self.goal.met(compared)


@dataclass(frozen=True)
class Sample:
    """A load and what the server's processes spent on it."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU time a request of the server's processes."""
    foreign_cores: float
    errors: int


@dataclass(frozen=True)
class Contender:
    """A server, what it is asked, and whether an answer to that is right."""

    server: Server
    requests: Sequence[load.Request]
    is_right: Callable[[bytes], bool]


Samples = Mapping[str, tuple[Sample, ...]]


def alternate(plan: Plan, measurements: Mapping[str, Callable[[], T]]) -> dict[str, tuple[T, ...]]:
    """Each measurement once a round, in turn: A B A B."""
    found: dict[str, list[T]] = {name: [] for name in measurements}
    for _ in range(plan.rounds):
        for name, measure in measurements.items():
            found[name].append(measure())
    return {name: tuple(values) for name, values in found.items()}


def compare(plan: Plan, contenders: Mapping[str, Contender | None], *, connections: int) -> Samples:
    """The same load for each contender that is there, in turn.

    Raises RuntimeError if any gives a wrong answer to a request, or Cloister an error under load.
    """
    present = {name: contender for name, contender in contenders.items() if contender is not None}
    for name, contender in present.items():
        plan.say(f"{name}, {connections} connections")
        for request in contender.requests:
            check(name, contender, request)
        if not plan.smoke:
            # Before it counts: instances, caches, just-in-time compilers.
            load.run(contender.server.url, contender.requests, connections=connections, seconds=1)

    def measured(name: str, contender: Contender) -> Callable[[], Sample]:
        return lambda: sample(plan, name, contender, connections)

    return alternate(plan, {name: measured(name, contender) for name, contender in present.items()})


def check(name: str, contender: Contender, request: load.Request) -> None:
    """Asks once and looks at the answer, which the load generator does not. Raises RuntimeError if it is wrong."""
    status, content = ask(contender.server, request)
    if status != 200 or not contender.is_right(content):
        raise RuntimeError(f"{name}, {request.method} {request.path}: {status} {content[:200]!r}")


def ask(server: Server, request: load.Request) -> tuple[int, bytes]:
    """One request on a connection of its own: the answer's status and body."""
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    try:
        connection.request(request.method, request.path, request.body, request.headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def sample(plan: Plan, name: str, contender: Contender, connections: int) -> Sample:
    """One load. Raises RuntimeError if Cloister answers with errors."""
    server = contender.server
    watch, own_s = Watch(), server.cpu_s()
    found = load.run(server.url, contender.requests, connections=connections, seconds=plan.seconds)
    spent_s, foreign_cores = server.cpu_s() - own_s, watch.foreign_cores()
    if found.errors and name.startswith(CLOISTER):
        raise RuntimeError(f"{found.errors} errors at {contender.requests[0]}")
    cpu_us = spent_s * 1e6 / found.requests
    return Sample(found.per_second, found.p50_ms, found.p99_ms, cpu_us, foreign_cores, found.errors)


class Watch:
    """What programs that are not part of the run take of the machine, from here on."""

    def __init__(self) -> None:
        # Servers, their children and load generators are descendants of this process; those that have ended count too.
        self._run = Server("", os.getpid())
        self._machine_s, self._run_s, self._started = machine_cpu_s(), self._run.cpu_s(), time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def foreign_cores(self) -> float:
        """How many processors they took, on average."""
        foreign_s = (machine_cpu_s() - self._machine_s) - (self._run.cpu_s() - self._run_s)
        return max(0.0, foreign_s / self.seconds)


def watched(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, each with the code that was measured and what other programs took, where it does not say so itself."""
    watch, foreign = Watch(), 0.0
    before = code_digest()
    for found in rows:
        if watch.seconds > WATCH_S:  # a row that follows at once was measured together with the one before
            watch, foreign = Watch(), watch.foreign_cores()
        # A case's servers have the code of its beginning: one change marks all of its rows from there on.
        code = before if code_digest() == before else "changing"
        watched_or_not = found.foreign_cores if found.foreign_cores is not None or not found.values else foreign
        yield replace(found, foreign_cores=watched_or_not, code=code)


def row(
    name: str,
    samples: Samples,
    attribute: str = "per_second",
    *,
    goal: Goal | None = None,
    note: str = "",
) -> Row:
    """A row from one attribute of each sample."""
    values = {peer: tuple(getattr(found, attribute) for found in rounds) for peer, rounds in samples.items()}
    errors = {peer: sum(found.errors for found in rounds) for peer, rounds in samples.items()}
    notes = [note, *(f"{peer}: {count} errors" for peer, count in errors.items() if count)]
    cpu_us = {peer: statistics.median(found.cpu_us for found in rounds) for peer, rounds in samples.items()}
    foreign = max(found.foreign_cores for rounds in samples.values() for found in rounds)
    own = values.pop(CLOISTER)
    return Row(name, UNITS[attribute], own, values, goal, "; ".join(filter(None, notes)), cpu_us, foreign)


UNITS = {"per_second": "requests/s", "p50_ms": "ms", "p99_ms": "ms"}


def not_measured(name: str, why: str, goal: Goal | None = None, unit: str = "") -> Row:
    return Row(name, unit, (), goal=goal, note=f"not measured: {why}")
