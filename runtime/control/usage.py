"""What tenants have used, by day: to bill from."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import msgspec

from runtime.control.envelope import invalid
from runtime.control.routes import Call, Result, Route
from runtime.telemetry.ledger import DayUsage
from runtime.telemetry.meters import TenantKey

DAYS_DEFAULT = 30
DAYS_MAX = 400


class UsageQuery(msgspec.Struct, frozen=True):
    """Days in UTC, both included: the last 30 unless given."""

    since: date | None = None
    until: date | None = None
    namespace: str | None = None
    script: str | None = None


class UsageResult(msgspec.Struct, frozen=True):
    """One tenant's day. `requests` are HTTP requests that named it, `calls` the calls of its worker; `errors` are calls
    that did not end well, those that callers left aside. `bytes_out` is its egress; `storage_bytes` the most that it
    kept on that day."""

    day: str
    namespace: str
    script: str
    requests: int
    calls: int
    errors: int
    cpu_ms: float
    host_calls: int
    bytes_in: int
    bytes_out: int
    storage_bytes: int


async def list_usage(call: Call[UsageQuery, None]) -> Result:
    query = call.query
    today = datetime.now(UTC).date()
    until = query.until or today
    since = query.since or until - timedelta(days=DAYS_DEFAULT - 1)
    if not timedelta(0) <= until - since < timedelta(days=DAYS_MAX):
        raise invalid(f"since: must be a day up to `until`, and less than {DAYS_MAX} days before it.")
    if query.script is not None and query.namespace is None and call.access.tenant is None:
        raise invalid("namespace: is needed with `script`.")
    names = {namespace.key: namespace.name for namespace in await call.parts.registry.list_namespaces()}
    keys = {name: key for key, name in names.items()}
    tenant = TenantKey(keys.get(query.namespace or "", query.namespace or ""), query.script) if query.script else None
    if (own := call.access.tenant) is not None:
        tenant = TenantKey(own.namespace, own.script)
    namespace = keys.get(query.namespace, query.namespace) if query.namespace else None
    await call.parts.survey.look()
    found = await call.parts.observatory.recorder.read(
        lambda ledger: ledger.usage(since.isoformat(), until.isoformat(), tenant, namespace)
    )
    return Result([_describe(usage, names) for usage in found])


def _describe(usage: DayUsage, names: dict[str, str]) -> UsageResult:
    return UsageResult(
        day=usage.day,
        namespace=names.get(usage.namespace, usage.namespace),
        script=usage.script,
        requests=usage.requests,
        calls=usage.calls,
        errors=usage.errors,
        cpu_ms=round(usage.cpu_ms, 3),
        host_calls=usage.host_calls,
        bytes_in=usage.bytes_in,
        bytes_out=usage.bytes_out,
        storage_bytes=usage.storage_bytes,
    )


ROUTES = (
    Route(
        "GET",
        "/accounts/{account}/usage",
        list_usage,
        "What tenants have used, by day; a tenant's token sees its own",
        "read",
        "own",
        result=list[UsageResult],
        query=UsageQuery,
    ),
)
