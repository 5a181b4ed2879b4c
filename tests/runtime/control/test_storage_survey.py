"""What tenants keep on disk is booked each day, whoever asks and however many tenants there are."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from host_bindings.body import BytesBody
from host_bindings.d1.service import SqlService
from host_bindings.scope import Resources, Tenant
from runtime.control.storage_survey import StorageSurvey
from runtime.telemetry.ledger import DAYS_KEPT, Gauges, Ledger
from runtime.telemetry.meters import Counts, TenantKey
from tests.runtime.control.service import SCRIPTS, Control, RunControl

KV = [{"type": "kv_namespace", "name": "KV", "namespace_id": "cache"}]


async def booked(control: Control) -> dict[str, int]:
    """Today's figures after a whole round, by script."""
    today = datetime.now(UTC).date().isoformat()
    survey = StorageSurvey(control.registry, control.resources, control.observatory.recorder)
    await survey.look()
    days = await control.observatory.recorder.read(lambda ledger: ledger.usage(today, today))
    return {day.script: day.storage_bytes for day in days}


def test_who_is_deployed_and_who_was_and_has_something_stored_are_booked(
    run_control: RunControl, component: bytes
) -> None:
    async def test(control: Control) -> None:
        for name in ("stays", "deleted", "purged"):
            await control.put(name, component, {"bindings": KV})
            await control.resources.kv(Tenant("production", name), "cache").put("key", b"x" * 100_000)
        await control.call("DELETE", f"{SCRIPTS}/deleted")
        await control.call("DELETE", f"{SCRIPTS}/purged?purge_data=true")
        await control.put("empty", component)

        found = await booked(control)

        assert found["stays"] > 100_000 and found["deleted"] > 100_000
        assert found["empty"] == 0
        assert Tenant("production", "purged") not in await control.registry.resources.owners()

    run_control(test)


def test_the_api_has_the_figures_of_a_tenant_that_nobody_calls(run_control: RunControl, component: bytes) -> None:
    async def test(control: Control) -> None:
        await control.put("idle", component, {"bindings": KV})
        await control.resources.kv(Tenant("production", "idle"), "cache").put("key", b"x" * 100_000)

        async def stored() -> int:
            days = (await control.call("GET", "/client/v4/accounts/local/usage")).result
            return sum(day["storage_bytes"] for day in days if day["script"] == "idle")

        async with asyncio.timeout(60):
            while await stored() < 100_000:
                await asyncio.sleep(0.1)

    run_control(test)


@pytest.fixture
def bucketful(tmp_path: Path) -> Path:
    """A folder of resources in which one tenant has a bucket with three large objects and two small ones."""

    async def fill() -> None:
        sql = SqlService(tmp_path)
        resources = Resources(tmp_path, sql)
        bucket = resources.r2(Tenant("production", "acme"), "files")
        for number in range(3):
            await bucket.put(f"large-{number}", BytesBody(b"x" * 50_000))
            if number:
                await bucket.put(f"small-{number}", b"x" * 1000)
        await resources.close()
        await sql.close()

    asyncio.run(fill())
    return tmp_path


def sizes(directory: Path, tenants: list[Tenant], seconds: float) -> dict[Tenant, int]:
    async def measure() -> dict[Tenant, int]:
        sql = SqlService(directory)
        found = await Resources(directory, sql).sizes(tenants, seconds)
        await sql.close()
        return found

    return asyncio.run(measure())


def test_a_bucket_is_as_large_as_it_says_itself(bucketful: Path) -> None:
    acme = Tenant("production", "acme")
    assert sizes(bucketful, [acme], 60)[acme] == 3 * 50_000 + 2 * 1000 + 5 * 1024

    (metadata,) = bucketful.glob("*/r2_bucket/*/r2.sqlite")
    for file in metadata.parent.glob("r2.sqlite*"):
        file.write_bytes(b"damaged")
    assert sizes(bucketful, [acme], 60)[acme] > 3 * 50_000


def test_a_look_measures_as_many_tenants_as_there_is_time_for_and_one_at_least(bucketful: Path) -> None:
    tenants = [Tenant("production", name) for name in ("acme", "other", "third")]

    assert list(sizes(bucketful, tenants, 0)) == tenants[:1]
    assert list(sizes(bucketful, tenants, 60)) == tenants


def test_a_tenant_that_was_deleted_stays_billable_and_goes_at_last(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "usage.sqlite")
    gone, stays = TenantKey("production", "gone"), TenantKey("production", "stays")
    ledger.add({key: Counts(requests=1, cpu_ns=7) for key in (gone, stays)}, Gauges(), 1, 1_700_000_000)
    ledger.set_storage({gone: 10}, 1_700_000_000)
    later = 1_700_000_000 + (DAYS_KEPT - 1) * 86_400

    ledger.add({}, Gauges(), 1, later)
    assert [day.storage_bytes for day in ledger.usage("2000-01-01", "2100-01-01", gone)] == [10]
    assert {total.script for total in ledger.totals()} == {"gone", "stays"}

    ledger.set_storage({stays: 1}, later)
    ledger.add({}, Gauges(), 1, later + 3 * 86_400)
    assert ledger.usage("2000-01-01", "2100-01-01", gone) == []
    assert {total.script for total in ledger.totals()} == {"stays"}
    ledger.close()
