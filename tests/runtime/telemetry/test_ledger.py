"""What tenants use is counted in memory and kept on disk, by day and in all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from runtime.telemetry.ledger import DAYS_KEPT, GAUGES_FRESH_S, PROCESS, Gauges, Ledger
from runtime.telemetry.meters import WALL_MS_BOUNDS, Counts, Meters, TenantKey
from runtime.telemetry.recorder import Recorder

ACME, OTHER = TenantKey("production", "acme"), TenantKey("production", "other")
NOON = 1_790_000_000.0
DAY = "2026-09-21"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "usage.sqlite")
    yield opened
    opened.close()


def counted(requests: int = 1, outcome: str = "ok") -> dict[TenantKey, Counts]:
    meters = Meters()
    meter = meters.of(*ACME)
    for _ in range(requests):
        meter.call(outcome, 2_000_000, 3, cold=False)
        meter.request(200 if outcome == "ok" else 500, 7.0, 10, 20)
    return meters.take()


def test_a_meter_counts_until_its_counts_are_taken() -> None:
    meters = Meters()
    meter = meters.of(*ACME)
    meter.request(204, 0.5, 1, 2)
    meter.request(404, 60_000.0, 3, 4)
    meter.call("ok", 5, 6, cold=True)
    meter.limit("limit.cpu")

    (key, counts), *rest = meters.take().items()

    assert (key, rest) == (ACME, [])
    assert (counts.requests, counts.statuses, counts.bytes_in, counts.bytes_out) == (2, {2: 1, 4: 1}, 4, 6)
    assert (counts.calls, counts.outcomes, counts.cpu_ns, counts.host_calls, counts.cold_starts) == (
        1,
        {"ok": 1},
        5,
        6,
        1,
    )
    assert counts.limits == {"limit.cpu": 1}
    assert (counts.wall_buckets[0], counts.wall_buckets[-1], sum(counts.wall_buckets)) == (1, 1, 2)
    assert meters.take() == {}


@pytest.mark.parametrize(("wall_ms", "bucket"), [(0, 0), (1, 0), (1.01, 1), (30_000, len(WALL_MS_BOUNDS) - 1)])
def test_a_bound_belongs_to_its_bucket(wall_ms: float, bucket: int) -> None:
    meters = Meters()
    meters.of(*ACME).request(200, wall_ms, 0, 0)

    assert meters.take()[ACME].wall_buckets.index(1) == bucket


def test_usage_adds_up_by_day_and_tenant(ledger: Ledger) -> None:
    ledger.add(counted(2), Gauges(), 1, NOON)
    ledger.add(counted(1, "exception"), Gauges(), 2, NOON)
    ledger.add(counted(1, "canceled"), Gauges(), 2, NOON)
    ledger.add(counted(5), Gauges(), 1, NOON + 86_400)

    (today,) = ledger.usage(DAY, DAY)

    assert (today.day, today.namespace, today.script) == (DAY, *ACME)
    # That a caller has left is no error.
    assert (today.requests, today.calls, today.errors) == (4, 4, 1)
    assert (today.cpu_ms, today.host_calls, today.bytes_in, today.bytes_out) == (8.0, 12, 40, 80)
    assert [day.requests for day in ledger.usage("2026-09-01", "2026-09-30")] == [4, 5]
    assert ledger.usage(DAY, DAY, OTHER) == []
    assert ledger.usage(DAY, DAY, namespace="staging") == []


def test_a_days_storage_is_its_highest_figure(ledger: Ledger) -> None:
    for size in (10, 30, 20):
        ledger.set_storage({ACME: size}, NOON)

    assert [day.storage_bytes for day in ledger.usage(DAY, DAY)] == [30]


def test_old_days_go(ledger: Ledger) -> None:
    ledger.add(counted(), Gauges(), 1, NOON)

    ledger.add(counted(), Gauges(), 1, NOON + (DAYS_KEPT + 1) * 86_400)

    assert len(ledger.usage("2000-01-01", "2100-01-01")) == 1


def test_totals_tell_statuses_outcomes_and_limits_apart(ledger: Ledger) -> None:
    ledger.add(counted(2), Gauges(), 1)
    ledger.add(counted(3, "exceededCpu"), Gauges(), 2)

    totals = {(total.name, total.label): total.value for total in ledger.totals()}

    assert (totals["requests", "2xx"], totals["requests", "5xx"]) == (2, 3)
    assert (totals["calls", "ok"], totals["calls", "exceededCpu"]) == (2, 3)
    assert totals["wall_bucket", "3"] == 5


def test_gauges_are_those_of_living_processes(ledger: Ledger) -> None:
    ledger.add({}, Gauges({ACME: {"instances": 2}, PROCESS: {"process_threads": 4}}), 1, NOON)
    ledger.add({}, Gauges({ACME: {"instances": 3}}), 2, NOON)
    ledger.add({}, Gauges({ACME: {"instances": 1}}), 2, NOON + 1)

    assert ledger.gauges(NOON + 1)[ACME] == {"instances": 3}
    assert ledger.processes(NOON + 1) == {1: {"process_threads": 4}}
    assert ledger.gauges(NOON + GAUGES_FRESH_S + 0.5) == {ACME: {"instances": 1}}


def test_the_file_is_the_operators_alone(tmp_path: Path) -> None:
    Ledger(tmp_path / "usage.sqlite").close()

    assert (tmp_path / "usage.sqlite").stat().st_mode & 0o777 == 0o600


def test_several_processes_write_one_file(tmp_path: Path) -> None:
    one, two = Ledger(tmp_path / "usage.sqlite"), Ledger(tmp_path / "usage.sqlite")
    for _ in range(20):
        one.add(counted(), Gauges(), 1, NOON)
        two.add(counted(), Gauges(), 2, NOON)

    assert [day.requests for day in one.usage(DAY, DAY)] == [40]
    one.close()
    two.close()


def test_what_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    async def run() -> None:
        meters = Meters()
        recorder = Recorder(tmp_path / "usage.sqlite", meters)
        await recorder.open()
        blocker = apsw.Connection(str(tmp_path / "usage.sqlite"))
        await recorder.run(lambda: recorder._ledger._connection.set_busy_timeout(1))
        blocker.execute("BEGIN IMMEDIATE")
        meters.of(*ACME).request(200, 1, 0, 0)
        await recorder._flush()
        meters.of(*ACME).request(200, 1, 0, 0)
        blocker.execute("ROLLBACK")
        blocker.close()

        usage = await recorder.read(lambda ledger: ledger.usage("2000-01-01", "2100-01-01"))

        assert [day.requests for day in usage] == [2]
        await recorder.close()

    asyncio.run(run())
