"""What tenants do at present: rates and latencies of the last minute, from two readings of the ledger's totals.

Readings are made when somebody looks; nobody looking costs nothing.
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from runtime.control.parts import Parts
from runtime.telemetry.ledger import Ledger, Total
from runtime.telemetry.meters import BUCKETS, WALL_MS_BOUNDS, TenantKey

WINDOW_S = 60.0
SPACING_S = 10.0
"""Between readings that are kept, so that there are few."""

_REQUESTS, _CALLS, _ERRORS, _CPU_NS, _FIRST_BUCKET = range(5)
_NOTHING = array("d", bytes(8 * (_FIRST_BUCKET + BUCKETS)))


@dataclass(frozen=True)
class Figures:
    """One tenant's. The first block is of the last minute: `seconds` is how much of it was seen, 0 at first.

    `cpu` is in seconds of CPU a second; `p50_ms` and `p99_ms` are None where there were no requests. `day_…` is of
    today in UTC.
    """

    seconds: float
    requests_per_s: float
    error_percent: float
    cpu: float
    p50_ms: float | None
    p99_ms: float | None
    day_requests: int
    day_errors: int
    day_cpu_ms: float
    storage_bytes: int
    running: int
    instances: int


class Observer:
    """Belongs to one event loop."""

    def __init__(self, parts: Parts, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._clock = clock
        self._kept: deque[tuple[float, Mapping[TenantKey, array[float]]]] = deque()

    async def read(self, tenants: Sequence[TenantKey]) -> dict[TenantKey, Figures]:
        """The figures of these tenants. Raises `apsw.Error`."""
        await self._parts.survey.look()
        today = datetime.now(UTC).date().isoformat()

        def ask(
            ledger: Ledger,
        ) -> tuple[list[Total], dict[TenantKey, dict[str, float]], dict[TenantKey, tuple[float, ...]]]:
            days: dict[TenantKey, tuple[float, ...]] = {
                TenantKey(day.namespace, day.script): (day.requests, day.errors, day.cpu_ms, day.storage_bytes)
                for day in ledger.usage(today, today)
            }
            return ledger.totals(), ledger.gauges(), days

        totals, gauges, days = await self._parts.observatory.recorder.read(ask)
        now, present = self._clock(), _add_up(totals)
        while self._kept and now - self._kept[0][0] > WINDOW_S + SPACING_S:
            self._kept.popleft()
        if not self._kept or now - self._kept[-1][0] >= SPACING_S:
            self._kept.append((now, present))
        since, before = self._kept[0]
        return {
            key: _figures(
                now - since,
                array("d", (a - b for a, b in zip(present.get(key, _NOTHING), before.get(key, _NOTHING), strict=True))),
                days.get(key, (0, 0, 0.0, 0)),
                gauges.get(key, {}),
            )
            for key in tenants
        }


def percentile(buckets: Sequence[float], share: float) -> float | None:
    """In milliseconds, from a histogram over `WALL_MS_BOUNDS`: within a bucket by straight line, as Prometheus does.

    What lies above the last bound counts as the bound. None of an empty histogram.
    """
    wanted, below = sum(buckets) * share, 0.0
    if not wanted:
        return None
    for (low, high), count in zip(pairwise((0.0, *WALL_MS_BOUNDS)), buckets, strict=False):
        if count and below + count >= wanted:
            return low + (high - low) * (wanted - below) / count
        below += count
    return float(WALL_MS_BOUNDS[-1])


def _add_up(totals: Sequence[Total]) -> dict[TenantKey, array[float]]:
    found: dict[TenantKey, array[float]] = {}
    for total in totals:
        values = found.setdefault(TenantKey(total.namespace, total.script), array("d", _NOTHING))
        if total.name == "requests":
            values[_REQUESTS] += total.value
        elif total.name == "calls":
            values[_CALLS] += total.value
            values[_ERRORS] += total.value if total.label != "ok" else 0
        elif total.name == "cpu_ns":
            values[_CPU_NS] += total.value
        elif total.name == "wall_bucket":
            values[_FIRST_BUCKET + int(total.label)] += total.value
    return found


def _figures(seconds: float, change: Sequence[float], day: Sequence[float], gauges: Mapping[str, float]) -> Figures:
    buckets = change[_FIRST_BUCKET:]
    return Figures(
        seconds=seconds,
        requests_per_s=change[_REQUESTS] / seconds if seconds else 0.0,
        error_percent=100 * change[_ERRORS] / change[_CALLS] if change[_CALLS] else 0.0,
        cpu=change[_CPU_NS] / 1e9 / seconds if seconds else 0.0,
        p50_ms=percentile(buckets, 0.5),
        p99_ms=percentile(buckets, 0.99),
        day_requests=int(day[0]),
        day_errors=int(day[1]),
        day_cpu_ms=day[2],
        storage_bytes=int(day[3]),
        running=int(gauges.get("running", 0)),
        instances=int(gauges.get("instances", 0)),
    )
