"""What tenants have used, kept on disk: by day to bill from, and in all for metrics. Shared by all server processes.

Each process adds what it has counted once a second, in one transaction; after a crash at most that second is missing.
It is the operator's own file: nothing of a tenant's can write it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import apsw

from host_bindings.storage.wal import use_wal
from runtime.telemetry.meters import BUCKETS, Counts, TenantKey

DAYS_KEPT = 400
"""How long a day's figures are kept, those of tenants that were deleted too; and the totals of a tenant without any."""

GAUGES_FRESH_S = 10.0
"""Figures of a process that has not said anything for so long are not counted: it has ended."""

_BUSY_MS = 5_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    namespace TEXT NOT NULL,
    script TEXT NOT NULL,
    day TEXT NOT NULL,
    requests INTEGER NOT NULL DEFAULT 0,
    calls INTEGER NOT NULL DEFAULT 0,
    errors INTEGER NOT NULL DEFAULT 0,
    cpu_ns INTEGER NOT NULL DEFAULT 0,
    host_calls INTEGER NOT NULL DEFAULT 0,
    bytes_in INTEGER NOT NULL DEFAULT 0,
    bytes_out INTEGER NOT NULL DEFAULT 0,
    storage_bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (namespace, script, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (
    namespace TEXT NOT NULL,
    script TEXT NOT NULL,
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (namespace, script, name, label)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gauges (
    process INTEGER NOT NULL,
    namespace TEXT NOT NULL,
    script TEXT NOT NULL,
    name TEXT NOT NULL,
    value REAL NOT NULL,
    written REAL NOT NULL,
    PRIMARY KEY (process, namespace, script, name)
) STRICT, WITHOUT ROWID;
"""

_ADD_USAGE = """
INSERT INTO usage (namespace, script, day, requests, calls, errors, cpu_ns, host_calls, bytes_in, bytes_out)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (namespace, script, day) DO UPDATE SET
    requests = requests + excluded.requests, calls = calls + excluded.calls, errors = errors + excluded.errors,
    cpu_ns = cpu_ns + excluded.cpu_ns, host_calls = host_calls + excluded.host_calls,
    bytes_in = bytes_in + excluded.bytes_in, bytes_out = bytes_out + excluded.bytes_out
"""

_ADD_TOTAL = """
INSERT INTO totals VALUES (?, ?, ?, ?, ?)
ON CONFLICT (namespace, script, name, label) DO UPDATE SET value = value + excluded.value
"""

_SET_STORAGE = """
INSERT INTO usage (namespace, script, day, storage_bytes) VALUES (?, ?, ?, ?)
ON CONFLICT (namespace, script, day) DO UPDATE SET storage_bytes = max(storage_bytes, excluded.storage_bytes)
"""


@dataclass(frozen=True)
class DayUsage:
    """One tenant's day (UTC). `errors` are calls that did not end well, those whose caller left aside;
    `storage_bytes` is the day's highest figure."""

    namespace: str
    script: str
    day: str
    requests: int
    calls: int
    errors: int
    cpu_ms: float
    host_calls: int
    bytes_in: int
    bytes_out: int
    storage_bytes: int


@dataclass(frozen=True)
class Total:
    """A figure that only grows. `label` tells figures of one name apart: a status, an outcome, a bucket."""

    namespace: str
    script: str
    name: str
    label: str
    value: float


@dataclass(frozen=True)
class Gauges:
    """Figures of now, of one process: by tenant, and of the process itself under an empty name."""

    values: Mapping[TenantKey, Mapping[str, float]] = field(default_factory=dict)


PROCESS = TenantKey("", "")
"""Whose gauges are the process's own."""


class Ledger:
    """An open file. Blocks; belongs to one thread. Raises `apsw.Error` if the file cannot be used."""

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        self._connection.set_busy_timeout(_BUSY_MS)
        use_wal(self._connection, _BUSY_MS / 1000)
        # A second's figures may be lost with the power; the file may not be damaged.
        self._connection.pragma("synchronous", "NORMAL")
        self._connection.execute(_SCHEMA)
        self._pruned_day = ""

    def close(self) -> None:
        self._connection.close()

    def add(self, counts: Mapping[TenantKey, Counts], gauges: Gauges, process: int, now: float | None = None) -> None:
        """Adds what one process has counted, and replaces its gauges."""
        moment = time.time() if now is None else now
        day = _day(moment)
        with self._connection:
            for key, count in counts.items():
                # That a caller leaves is no fault of the worker's.
                errors = count.calls - count.outcomes.get("ok", 0) - count.outcomes.get("canceled", 0)
                figures = (count.requests, count.calls, errors, count.cpu_ns, count.host_calls)
                self._connection.execute(_ADD_USAGE, (*key, day, *figures, count.bytes_in, count.bytes_out))
                self._connection.executemany(_ADD_TOTAL, ((*key, *total) for total in _totals(count)))
            self._connection.execute("DELETE FROM gauges WHERE process = ?", (process,))
            self._connection.executemany(
                "INSERT INTO gauges VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (process, *key, name, float(value), moment)
                    for key, values in gauges.values.items()
                    for name, value in values.items()
                ),
            )
            self._prune(day, moment)

    def set_storage(self, bytes_stored: Mapping[TenantKey, int], now: float | None = None) -> None:
        """What tenants keep at present."""
        day = _day(time.time() if now is None else now)
        with self._connection:
            self._connection.executemany(_SET_STORAGE, ((*key, day, size) for key, size in bytes_stored.items()))

    def usage(
        self, first_day: str, last_day: str, tenant: TenantKey | None = None, namespace: str | None = None
    ) -> list[DayUsage]:
        """By day, namespace and script; days as YYYY-MM-DD, both included."""
        rows = self._connection.execute(
            "SELECT namespace, script, day, requests, calls, errors, cpu_ns / 1e6, host_calls, bytes_in, bytes_out, "
            "storage_bytes FROM usage WHERE day BETWEEN ?1 AND ?2 AND (?3 IS NULL OR namespace = ?3) "
            "AND (?4 IS NULL OR script = ?4) ORDER BY day, namespace, script",
            (first_day, last_day, tenant.namespace if tenant else namespace, tenant.script if tenant else None),
        )
        return [DayUsage(*row) for row in rows]

    def totals(self) -> list[Total]:
        """All of them, since the file was made."""
        return [
            Total(*row) for row in self._connection.execute("SELECT * FROM totals ORDER BY name, namespace, script")
        ]

    def gauges(self, now: float | None = None) -> dict[TenantKey, dict[str, float]]:
        """The sums over all processes that live."""
        since = (time.time() if now is None else now) - GAUGES_FRESH_S
        found: dict[TenantKey, dict[str, float]] = {}
        for namespace, script, name, value in self._connection.execute(
            "SELECT namespace, script, name, sum(value) FROM gauges WHERE written >= ? GROUP BY 1, 2, 3", (since,)
        ):
            found.setdefault(TenantKey(namespace, script), {})[name] = value
        return found

    def processes(self, now: float | None = None) -> dict[int, dict[str, float]]:
        """Each living process's own gauges, by process id."""
        since = (time.time() if now is None else now) - GAUGES_FRESH_S
        found: dict[int, dict[str, float]] = {}
        for process, name, value in self._connection.execute(
            "SELECT process, name, value FROM gauges WHERE written >= ? AND namespace = '' AND script = ''", (since,)
        ):
            found.setdefault(process, {})[name] = value
        return found

    def _prune(self, day: str, now: float) -> None:
        if self._pruned_day == day:
            return
        self._connection.execute("DELETE FROM usage WHERE day < ?", (_day(now - DAYS_KEPT * 86_400),))
        # Deployed tenants have a row each day, for what they store: these have been gone for all that time.
        self._connection.execute(
            "DELETE FROM totals WHERE NOT EXISTS (SELECT 1 FROM usage AS u "
            "WHERE u.namespace = totals.namespace AND u.script = totals.script)"
        )
        self._connection.execute("DELETE FROM gauges WHERE written < ?", (now - 86_400,))
        self._pruned_day = day


def _totals(count: Counts) -> list[tuple[str, str, float]]:
    found: list[tuple[str, str, float]] = [("requests", f"{kind}xx", number) for kind, number in count.statuses.items()]
    found += [("calls", outcome, number) for outcome, number in count.outcomes.items()]
    found += [("limits", code, number) for code, number in count.limits.items()]
    if count.requests:
        found += [("wall_bucket", str(i), n) for i, n in enumerate(count.wall_buckets[:BUCKETS]) if n]
        found.append(("wall_ms", "", count.wall_ms))
    for name in ("cpu_ns", "host_calls", "cold_starts", "bytes_in", "bytes_out"):
        if value := getattr(count, name):
            found.append((name, "", value))
    return found


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
