"""Which tenants have figures of their own in the metrics."""

from __future__ import annotations

from runtime.control.metrics import TENANTS_MAX, choose
from runtime.telemetry.ledger import Total
from runtime.telemetry.meters import TenantKey


def requests(**counts: float) -> list[Total]:
    return [Total("production", script, "requests", "2xx", count) for script, count in counts.items()]


def test_the_tenants_with_the_most_requests_have_figures_of_their_own() -> None:
    shown: set[TenantKey] = set()

    choose(shown, requests(**{f"t{n}": float(n) for n in range(TENANTS_MAX + 5)}))

    assert shown == {TenantKey("production", f"t{n}") for n in range(5, TENANTS_MAX + 5)}


def test_a_tenant_does_not_give_way_to_a_busier_one_or_the_sum_of_the_rest_would_fall() -> None:
    shown: set[TenantKey] = set()
    counts = {f"t{n}": 10.0 for n in range(TENANTS_MAX)}
    choose(shown, requests(**counts))
    before = set(shown)

    choose(shown, requests(**counts, newcomer=1_000.0))

    assert shown == before


def test_a_tenant_that_is_gone_leaves_its_place() -> None:
    shown: set[TenantKey] = set()
    counts = {f"t{n}": 10.0 for n in range(TENANTS_MAX)}
    choose(shown, requests(**counts))

    del counts["t0"]
    choose(shown, requests(**counts, newcomer=1.0))

    assert TenantKey("production", "newcomer") in shown
    assert TenantKey("production", "t0") not in shown
    assert len(shown) == TENANTS_MAX
