"""The store behind a script's binding: under which id the API's other routes reach it."""

from __future__ import annotations

import msgspec

from host_bindings.scope import STORAGE_TYPES, BindingType
from runtime.control.envelope import invalid
from runtime.control.routes import Call, NoQuery, Result, script_routes
from runtime.registry import private_id


class BoundResult(msgspec.Struct, frozen=True):
    """`id` is a KV namespace's or a database's id, or a bucket's name."""

    binding: str
    type: BindingType
    id: str


async def get_bound(call: Call[NoQuery, None]) -> Result:
    name, tenant = call.path["binding"], call.tenant
    for binding in call.script().current.bindings:
        if binding.name == name and binding.type in STORAGE_TYPES and binding.resource_id is not None:
            # A tenant's token names stores as the tenant's bindings do, and what is granted has one name for all.
            as_bound = binding.granted or call.access.tenant is not None
            id = binding.resource_id if as_bound else private_id(binding.type, tenant, binding.resource_id)
            return Result(BoundResult(name, binding.type, id))
    raise invalid(f"binding: this script has none of the name {name[:80]!a} that stands for a store.")


ROUTES = script_routes(
    "GET", "/bindings/{binding}/store", get_bound, "Show which store a binding stands for", "read", result=BoundResult
)
