"""KV namespaces, buckets and databases by the names that the management API gives them.

What lies on the disk is the business of `host_bindings.scope`; this is the list of what there is, and of which tenants
may bind what belongs to the platform.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime

from host_bindings.scope import BindingType, Tenant


@dataclass(frozen=True)
class ResourceRecord:
    """A resource. `owner` None is the platform; `resource_id` is how bindings name it.

    `id` is unlike that of every other resource of the type: of the platform's, the resource_id itself.
    """

    type: BindingType
    id: str
    owner: Tenant | None
    resource_id: str
    name: str
    created_on: datetime


@dataclass(frozen=True)
class Grant:
    """Leave for a tenant to bind a resource of the platform's."""

    tenant: Tenant
    created_on: datetime


def private_id(type: BindingType, owner: Tenant, resource_id: str) -> str:
    """The id of a tenant's resource, in the form that ids of its type have: derived, so that it is always the same."""
    state = hashlib.sha256()
    for name in (type, owner.namespace, owner.script, resource_id):
        encoded = name.encode("utf-8", "surrogatepass")
        state.update(len(encoded).to_bytes(8, "big"))
        state.update(encoded)
    digest = state.hexdigest()[:32]
    if type == "d1":
        return str(uuid.UUID(digest))
    return f"t-{digest}" if type == "r2_bucket" else digest


def private_name(owner: Tenant, resource_id: str) -> str:
    return f"{owner.namespace}/{owner.script}/{resource_id}"
