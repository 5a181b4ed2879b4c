"""Resources and grants in the registry's database. Everything here blocks, within the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from host_bindings.scope import STORAGE_TYPES, Binding, BindingType, Tenant
from runtime.registry.connection import RegistryConnection, from_milliseconds, milliseconds, now
from runtime.registry.errors import ResourceExists, UnknownResource
from runtime.registry.resources import Grant, ResourceRecord, private_id, private_name

_FOR_TENANT = """
    WHERE type = ?1 AND ((namespace = ?2 AND script = ?3) OR (namespace IS NULL AND EXISTS (
        SELECT 1 FROM grants AS g
        WHERE g.type = ?1 AND g.id = resources.id AND g.namespace = ?2 AND g.script = ?3
            AND NOT g.revoked)))
    ORDER BY name, id
"""

_COLUMNS = "SELECT type, id, namespace, script, resource_id, name, created_ms FROM resources "


class ResourceTable:
    def __init__(self, connection: RegistryConnection) -> None:
        self._connection = connection

    def create(self, type: BindingType, owner: Tenant | None, resource_id: str, name: str) -> ResourceRecord:
        """Raises `ResourceExists` if the owner has one of that name or resource_id."""
        id = resource_id if owner is None else private_id(type, owner, resource_id)
        namespace, script = (owner.namespace, owner.script) if owner else (None, None)
        created = now()
        clashing = self._connection.value(
            """SELECT count(*) FROM resources WHERE type = ?1 AND (id = ?2 OR (
                namespace IS ?3 AND script IS ?4 AND (name = ?5 OR resource_id = ?6)))""",
            type,
            id,
            namespace,
            script,
            name,
            resource_id,
        )
        if clashing:
            raise ResourceExists(type, name)
        self._connection.execute(
            "INSERT INTO resources VALUES (?, ?, ?, ?, ?, ?, ?)",
            type,
            id,
            namespace,
            script,
            resource_id,
            name,
            milliseconds(created),
        )
        return ResourceRecord(type, id, owner, resource_id, name, created)

    def note(self, owner: Tenant, bindings: Iterable[Binding]) -> None:
        """Lists what a tenant's bindings name as the tenant's own, unless it is listed already."""
        for binding in bindings:
            if binding.type not in STORAGE_TYPES or binding.granted or binding.resource_id is None:
                continue
            id = private_id(binding.type, owner, binding.resource_id)
            self._connection.execute(
                "INSERT INTO resources VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                binding.type,
                id,
                owner.namespace,
                owner.script,
                binding.resource_id,
                private_name(owner, binding.resource_id),
                milliseconds(now()),
            )

    def find(self, type: BindingType, id: str) -> ResourceRecord | None:
        rows = self._connection.rows(_COLUMNS + "WHERE type = ? AND id = ?", type, id)
        return _read(rows[0]) if rows else None

    def find_owned(self, type: BindingType, owner: Tenant | None, resource_id: str) -> ResourceRecord | None:
        """By the name that the owner's bindings give it."""
        namespace, script = (owner.namespace, owner.script) if owner else (None, None)
        rows = self._connection.rows(
            _COLUMNS + "WHERE type = ? AND namespace IS ? AND script IS ? AND resource_id = ?",
            type,
            namespace,
            script,
            resource_id,
        )
        return _read(rows[0]) if rows else None

    def of_type(self, type: BindingType, tenant: Tenant | None) -> list[ResourceRecord]:
        """By name; of a tenant alone its own and what it has been granted."""
        if tenant is None:
            return [_read(row) for row in self._connection.rows(_COLUMNS + "WHERE type = ? ORDER BY name, id", type)]
        rows = self._connection.rows(
            _COLUMNS + _FOR_TENANT,
            type,
            tenant.namespace,
            tenant.script,
        )
        return [_read(row) for row in rows]

    def rename(self, type: BindingType, id: str, name: str) -> ResourceRecord:
        """Raises `UnknownResource`, `ResourceExists`."""
        found = self.find(type, id)
        if found is None:
            raise UnknownResource(type, id)
        namespace, script = (found.owner.namespace, found.owner.script) if found.owner else (None, None)
        clashing = self._connection.value(
            "SELECT count(*) FROM resources WHERE type = ? AND name = ? AND namespace IS ? AND script IS ? AND id != ?",
            type,
            name,
            namespace,
            script,
            id,
        )
        if clashing:
            raise ResourceExists(type, name)
        self._connection.execute("UPDATE resources SET name = ? WHERE type = ? AND id = ?", name, type, id)
        return ResourceRecord(type, id, found.owner, found.resource_id, name, found.created_on)

    def delete(self, type: BindingType, id: str) -> bool:
        return bool(self._connection.execute("DELETE FROM resources WHERE type = ? AND id = ?", type, id))

    def owners(self) -> list[Tenant]:
        rows = self._connection.rows("SELECT DISTINCT namespace, script FROM resources WHERE namespace IS NOT NULL")
        return [Tenant(namespace, script) for namespace, script in rows]

    def forget_tenant(self, owner: Tenant) -> None:
        """Takes everything off the list that the tenant owns."""
        self._connection.execute(
            "DELETE FROM resources WHERE namespace = ? AND script = ?", owner.namespace, owner.script
        )

    # Grants

    def grant(self, type: BindingType, id: str, tenant: Tenant, *, again: bool = True) -> bool:
        """Whether anything changed. `again`: even if the grant was taken away before.

        Raises `UnknownResource` unless the resource is the platform's.
        """
        found = self.find(type, id)
        if found is None or found.owner is not None:
            raise UnknownResource(type, id)
        conflict = "UPDATE SET revoked = 0 WHERE revoked" if again else "NOTHING"
        return bool(
            self._connection.execute(
                f"INSERT INTO grants VALUES (?, ?, ?, ?, 0, ?) ON CONFLICT DO {conflict}",  # noqa: S608
                type,
                id,
                tenant.namespace,
                tenant.script,
                milliseconds(now()),
            )
        )

    def revoke(self, type: BindingType, id: str, tenant: Tenant) -> bool:
        """False if there is no such grant. That there was one is kept: see `grant`."""
        return bool(
            self._connection.execute(
                """UPDATE grants SET revoked = 1
                WHERE type = ? AND id = ? AND namespace = ? AND script = ? AND NOT revoked""",
                type,
                id,
                tenant.namespace,
                tenant.script,
            )
        )

    def grants(self, type: BindingType, id: str) -> list[Grant]:
        rows = self._connection.rows(
            """SELECT namespace, script, created_ms FROM grants
            WHERE type = ? AND id = ? AND NOT revoked ORDER BY namespace, script""",
            type,
            id,
        )
        return [Grant(Tenant(namespace, script), from_milliseconds(ms)) for namespace, script, ms in rows]

    def is_granted(self, type: BindingType, id: str, tenant: Tenant) -> bool:
        return any(grant.tenant == tenant for grant in self.grants(type, id))


def _read(row: tuple[Any, ...]) -> ResourceRecord:
    type, id, namespace, script, resource_id, name, created_ms = row
    owner = Tenant(namespace, script) if namespace is not None else None
    return ResourceRecord(type, id, owner, resource_id, name, from_milliseconds(created_ms))
