"""The cases, one file for each group. A case is a function that measures and yields rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from benchmarks.cases.bodies import bodies, bodies_memory, guest_body
from benchmarks.cases.fairness import fairness
from benchmarks.cases.hello import access_log, echo, groups, one_tenant
from benchmarks.cases.lifecycle import deploy, isolation, start
from benchmarks.cases.platform import platform
from benchmarks.cases.processes import processes
from benchmarks.cases.stores import STORES, store_growth, stores
from benchmarks.cases.tenants import cold, tenants
from benchmarks.cases.waiting import waiting
from benchmarks.measure import Plan, Row

Case = Callable[[Plan], Iterator[Row]]

CASES: Mapping[str, Case] = {
    "one-tenant": one_tenant,
    "echo": echo,
    "platform": platform,
    "stores": stores,
    "store-growth": store_growth,
    "bodies": bodies,
    "bodies-memory": bodies_memory,
    "guest-body": guest_body,
    "cold": cold,
    "isolation": isolation,
    "deploy": deploy,
    "in-flight": waiting,
    "fairness": fairness,
    "access-log": access_log,
    "groups": groups,
    "tenants": tenants,
    "start": start,
    "processes": processes,
}

PARTS: Mapping[str, Case] = {f"stores-{name}": partial(stores, which=(name,)) for name in STORES}
"""Parts of cases, which a run has only if they are asked for."""
