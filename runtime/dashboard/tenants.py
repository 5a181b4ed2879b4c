"""The overview of all tenants, and one tenant's page with its versions and bindings."""

from __future__ import annotations

import msgspec
from aiohttp import web

from host_bindings.scope import STORAGE_TYPES, Binding
from runtime.control.routes import Call, NoQuery
from runtime.control.shapes import limits_result
from runtime.control.versions import Rollback, roll_back
from runtime.dashboard.guard import see_other
from runtime.dashboard.visit import Visit
from runtime.registry import Version
from runtime.telemetry.meters import TenantKey

ROWS_MAX = 200
VALUE_CHARACTERS_MAX = 200


async def overview(visit: Visit) -> web.Response:
    """The busiest first; a tenant's token sees its tenant alone."""
    search = visit.request.query.get("q", "")[:100]
    versions: list[Version] = []
    for namespace in await visit.parts.registry.list_namespaces():
        versions += visit.parts.registry.list_scripts(namespace.name)
    if visit.access.tenant is not None:
        versions = [version for version in versions if version.tenant == visit.access.tenant]
    found = [version for version in versions if search in version.script]
    figures = await visit.dashboard.observer.read([_key(version) for version in found])
    rows = [(version, figures[_key(version)]) for version in found]
    rows.sort(key=lambda row: (-row[1].requests_per_s, -row[1].day_requests, row[0].namespace, row[0].script))
    seconds = rows[0][1].seconds if rows else 0.0
    return visit.render(
        "overview.html", rows=rows[:ROWS_MAX], found=len(found), all=len(versions), search=search, seconds=seconds
    )


async def show_tenant(visit: Visit) -> web.Response:
    tenant = await visit.tenant("read")
    version = tenant.script.current
    names = tenant.namespace.name, version.script
    figures = await visit.dashboard.observer.read([_key(version)])
    return tenant.render(
        "tenant.html",
        figures=figures[_key(version)],
        versions=await visit.parts.registry.versions(*names),
        shares={share.version.id: share.percentage for share in tenant.script.deployment.shares},
        bindings=[(binding, _value(binding)) for binding in version.bindings],
        limits={name: value for name, value in limits_result(version).items() if value is not None},
        stopped=visit.parts.stopped.find(version.id),
    )


async def deploy_version(visit: Visit) -> web.Response:
    """Has one version answer all requests, as the API's `rollback`."""
    tenant = await visit.tenant("deploy")
    path = {"namespace": tenant.namespace.name, "script": tenant.script.current.script}
    body = Rollback(visit.form.get("version", ""), "by the dashboard")
    await roll_back(Call(visit.parts, visit.access, visit.request, path, tenant.namespace, NoQuery(), body))
    return see_other(tenant.path)


def _value(binding: Binding) -> str | None:
    """What a binding stands for, shortened; None for a secret."""
    if binding.type == "secret_text":
        return None
    if binding.type in STORAGE_TYPES:
        return binding.resource_id
    text = binding.value if isinstance(binding.value, str) else msgspec.json.encode(binding.value).decode()
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[:VALUE_CHARACTERS_MAX] + "…"


def _key(version: Version) -> TenantKey:
    return TenantKey(version.tenant.namespace, version.tenant.script)
