"""What each tenant uses, counted in memory as it happens: cheap enough for every request.

Belongs to the event loop. `Ledger` takes the counts away from time to time and keeps them.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import NamedTuple

WALL_MS_BOUNDS = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000)
"""Upper bounds of the latency histogram's buckets; one more is for all that took longer."""

BUCKETS = len(WALL_MS_BOUNDS) + 1


class TenantKey(NamedTuple):
    """A dispatch namespace and a script in it."""

    namespace: str
    script: str


@dataclass(slots=True)
class Counts:
    """What has been counted since the last time it was taken away. CPU time is the guest's, until it is done."""

    requests: int = 0
    """HTTP requests on the tenants' port that named the tenant."""
    statuses: dict[int, int] = field(default_factory=dict)
    """Answers by the hundreds of their status."""
    wall_buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    wall_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    calls: int = 0
    """Calls of the worker: `fetch` and its methods."""
    outcomes: dict[str, int] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    """Calls that hit a limit, or were refused by one, by its code."""
    cpu_ns: int = 0
    host_calls: int = 0
    cold_starts: int = 0

    def __bool__(self) -> bool:
        return bool(self.requests or self.calls or self.limits)


@dataclass(slots=True)
class RequestTotals:
    """What the calls of one HTTP request came to, so far."""

    version: int = 0
    calls: int = 0
    cpu_ns: int = 0
    host_calls: int = 0
    cold: bool = False
    outcome: str = "ok"


class TenantMeter:
    """One tenant's counts."""

    __slots__ = ("counts", "key")

    def __init__(self, key: TenantKey) -> None:
        self.key = key
        self.counts = Counts()

    def request(self, status: int, wall_ms: float, bytes_in: int, bytes_out: int) -> None:
        """An HTTP request that named the tenant has been answered."""
        counts = self.counts
        counts.requests += 1
        kind = status // 100
        counts.statuses[kind] = counts.statuses.get(kind, 0) + 1
        counts.wall_buckets[bisect_left(WALL_MS_BOUNDS, wall_ms)] += 1
        counts.wall_ms += wall_ms
        counts.bytes_in += bytes_in
        counts.bytes_out += bytes_out

    def call(self, outcome: str, cpu_ns: int, host_calls: int, cold: bool) -> None:
        """A call of the worker is over, all that it did after its answer included."""
        counts = self.counts
        counts.calls += 1
        counts.outcomes[outcome] = counts.outcomes.get(outcome, 0) + 1
        counts.cpu_ns += cpu_ns
        counts.host_calls += host_calls
        counts.cold_starts += cold

    def limit(self, code: str) -> None:
        """A limit was hit, or refused a call."""
        self.counts.limits[code] = self.counts.limits.get(code, 0) + 1

    def take(self) -> Counts:
        """What has been counted; counting begins anew."""
        counts, self.counts = self.counts, Counts()
        return counts


class Meters:
    """The meters of all tenants that have been called, and the totals of requests that are under way."""

    def __init__(self) -> None:
        self._meters: dict[TenantKey, TenantMeter] = {}
        self._totals: dict[str, RequestTotals] = {}
        self.unknown = 0
        """Requests for tenants that do not exist."""
        self.forwarded = 0
        """Requests that the server behind this one has answered."""

    def of(self, namespace: str, script: str) -> TenantMeter:
        """The meter of a tenant that exists: names that callers make up would fill the memory."""
        key = TenantKey(namespace, script)
        found = self._meters.get(key)
        if found is None:
            found = self._meters[key] = TenantMeter(key)
        return found

    def watch(self, request_id: str) -> RequestTotals:
        """Adds up the calls of a request until `end`."""
        totals = self._totals[request_id] = RequestTotals()
        return totals

    def totals(self, request_id: str) -> RequestTotals | None:
        return self._totals.get(request_id)

    def end(self, request_id: str) -> None:
        self._totals.pop(request_id, None)

    def take(self) -> dict[TenantKey, Counts]:
        """The counts of all tenants that have any."""
        return {meter.key: meter.take() for meter in self._meters.values() if meter.counts}
