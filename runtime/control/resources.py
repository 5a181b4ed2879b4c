"""Who may reach which KV namespace, bucket or database through the API, and under which name.

The operator sees everything: what belongs to the platform by its own id, what belongs to a tenant by an id that is
derived from the tenant and the name that the tenant's bindings use. A tenant's token sees what is the tenant's, by the
names of its own bindings, and what it has been granted; for everything else there is the same answer as for nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from host_bindings.scope import BindingType, Tenant
from runtime.control.access import Access, denied
from runtime.control.routes import Call, NoQuery, Result, Route
from runtime.control.shapes import timestamp
from runtime.registry import ResourceRecord, UnknownNamespace, UnknownResource


class GrantResult(msgspec.Struct, frozen=True):
    namespace: str
    script: str
    created_on: str


async def find(call: Call[Any, Any], type: BindingType, id: str) -> ResourceRecord:
    """The resource that the caller means by `id`. Raises `UnknownResource`."""
    resources, tenant = call.parts.registry.resources, call.access.tenant
    found = await resources.find(type, id)
    if tenant is not None:
        granted = found is not None and found.owner is None and await resources.is_granted(type, id, tenant)
        if not granted:
            # As for a binding: the tenant's own, unless it has been given the platform's.
            own = await resources.find_owned(type, tenant, id)
            found = own or (found if found is not None and found.owner == tenant else None)
    if found is None:
        raise UnknownResource(type, id)
    return found


def shown_id(record: ResourceRecord, access: Access) -> str:
    """The id under which the caller knows it."""
    return record.resource_id if record.owner is not None and record.owner == access.tenant else record.id


async def visible(call: Call[Any, Any], type: BindingType) -> list[ResourceRecord]:
    """By name."""
    return await call.parts.registry.resources.of_type(type, call.access.tenant)


async def create(call: Call[Any, Any], type: BindingType, resource_id: str, name: str) -> ResourceRecord:
    """The platform's, or the tenant's own if the token is for one. Raises `ResourceExists`."""
    return await call.parts.registry.resources.create(type, call.access.tenant, resource_id, name)


def check_owner(call: Call[Any, Any], record: ResourceRecord) -> None:
    """Raises `ControlError` (403) for a tenant that was only granted the use of a resource."""
    if call.access.tenant is not None and record.owner != call.access.tenant:
        raise denied("This belongs to the platform: it may be used, but not be changed or deleted.")


async def delete(call: Call[Any, Any], record: ResourceRecord) -> None:
    """For good. Raises `ResourceInUse` while a deployed version binds it, `ControlError` as `check_owner`."""
    check_owner(call, record)
    if await call.parts.registry.resources.delete(record.type, record.id):
        await call.parts.resources.delete(record.owner, record.type, record.resource_id)


# Grants


def grant_routes(type: BindingType, path: str, parameter: str) -> list[Route]:
    """The routes below a resource's own path with which the operator gives tenants access to it."""

    async def list_grants(call: Call[NoQuery, None]) -> Result:
        record = await find(call, type, call.path[parameter])
        names = {each.key: each.name for each in await call.parts.registry.list_namespaces()}
        grants = await call.parts.registry.resources.grants(type, record.id)
        return Result(
            [
                GrantResult(
                    names.get(grant.tenant.namespace, grant.tenant.namespace),
                    grant.tenant.script,
                    timestamp(grant.created_on),
                )
                for grant in grants
            ]
        )

    async def put_grant(call: Call[NoQuery, None]) -> Result:
        record = await find(call, type, call.path[parameter])
        await call.parts.registry.resources.grant(type, record.id, await _tenant(call))
        return await list_grants(call)

    async def delete_grant(call: Call[NoQuery, None]) -> Result:
        record = await find(call, type, call.path[parameter])
        await call.parts.registry.resources.revoke(type, record.id, await _tenant(call))
        return await list_grants(call)

    one = f"{path}/grants/{{tenant_namespace}}/{{tenant_script}}"
    result = list[GrantResult]
    return [
        Route("GET", f"{path}/grants", list_grants, "List the tenants that may bind it", "read", "platform", result),
        Route("PUT", one, put_grant, "Let a tenant bind it", "deploy", "platform", result),
        Route("DELETE", one, delete_grant, "Take a tenant's access away", "deploy", "platform", result),
    ]


async def _tenant(call: Call[Any, Any]) -> Tenant:
    name = call.path["tenant_namespace"]
    for namespace in await call.parts.registry.list_namespaces():
        if namespace.name == name:
            return Tenant(namespace.key, call.path["tenant_script"])
    raise UnknownNamespace(name)
