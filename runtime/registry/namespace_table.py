"""Dispatch namespaces in the registry's database. Everything here blocks and belongs to the registry's thread."""

from __future__ import annotations

import uuid

from runtime.registry.connection import RegistryConnection, from_milliseconds, milliseconds, now
from runtime.registry.errors import NamespaceExists, NamespaceNotEmpty, UnknownNamespace
from runtime.registry.versions import Namespace


class NamespaceTable:
    def __init__(self, connection: RegistryConnection) -> None:
        self._connection = connection

    def create(self, name: str, *, trusted: bool = False) -> Namespace:
        created = now()
        id = str(uuid.uuid4())
        with self._connection.writing():
            if self.key(name) is not None:
                raise NamespaceExists(name)
            taken = self._connection.value(
                """SELECT EXISTS (
                    SELECT 1 FROM namespaces WHERE key = ?1 UNION SELECT 1 FROM retired_keys WHERE key = ?1)""",
                name,
            )
            # Another namespace had this name first, and its tenants' storage is called by it.
            key = id if taken else name
            created_ms = milliseconds(created)
            self._connection.execute(
                "INSERT INTO namespaces (key, name, id, trusted, created_ms, modified_ms) VALUES (?, ?, ?, ?, ?, ?)",
                key,
                name,
                id,
                int(trusted),
                created_ms,
                created_ms,
            )
        return Namespace(id, name, created, 0, key, created, trusted)

    def all(self) -> list[Namespace]:
        rows = self._connection.rows(
            """SELECT id, name, created_ms, (SELECT count(*) FROM scripts WHERE namespace = namespaces.key), key,
                modified_ms, trusted
            FROM namespaces ORDER BY name"""
        )
        return [
            Namespace(id, name, from_milliseconds(created), count, key, from_milliseconds(modified), bool(trusted))
            for id, name, created, count, key, modified, trusted in rows
        ]

    def update(self, name: str, new_name: str, trusted: bool) -> list[str]:
        """Renames a namespace; the scripts that it holds. Raises `UnknownNamespace`, `NamespaceExists`."""
        key = self.key(name)
        if key is None:
            raise UnknownNamespace(name)
        if new_name != name and self.key(new_name) is not None:
            raise NamespaceExists(new_name)
        self._connection.execute(
            "UPDATE namespaces SET name = ?, trusted = ?, modified_ms = ? WHERE key = ?",
            new_name,
            int(trusted),
            milliseconds(now()),
            key,
        )
        return [script for (script,) in self._connection.rows("SELECT name FROM scripts WHERE namespace = ?", key)]

    def delete(self, name: str) -> bool:
        with self._connection.writing():
            key = self.key(name)
            if key is None:
                return False
            count = self._connection.value("SELECT count(*) FROM scripts WHERE namespace = ?", key)
            if count:
                raise NamespaceNotEmpty(name, count)
            self._connection.execute("DELETE FROM namespaces WHERE key = ?", key)
            if key != name:
                self._connection.execute("INSERT INTO retired_keys VALUES (?) ON CONFLICT DO NOTHING", key)
            return True

    def key(self, name: str) -> str | None:
        rows = self._connection.rows("SELECT key FROM namespaces WHERE name = ?", name)
        return rows[0][0] if rows else None
