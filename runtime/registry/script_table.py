"""Scripts, versions and deployments in the registry's database.

Everything here blocks, and happens within the caller's transaction. Namespaces are meant by their keys; names come in
where a `Version` is read.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from host_bindings.scope import STORAGE_TYPES, Binding, Tenant
from runtime.engine.limits import Limits
from runtime.registry.connection import RegistryConnection, from_milliseconds, milliseconds, now
from runtime.registry.errors import UnknownVersion
from runtime.registry.seal import secret_context
from runtime.registry.versions import Content, Deployment, Module, Origin, Retention, Script, Share, Version

DEPLOYMENTS_KEPT = 100
"""How many of a script's deployments can be listed."""

_DAY_MS = 24 * 3600 * 1000

_VERSIONS = """
    SELECT v.id, v.number, n.name, v.namespace, v.script, v.artifact, v.bindings, v.limits, v.module, v.origin,
        v.created_ms
    FROM versions AS v JOIN namespaces AS n ON n.key = v.namespace
"""

_DEPLOYMENTS = "SELECT id, origin, created_ms FROM deployments "


class ScriptTable:
    def __init__(self, connection: RegistryConnection, retention: Retention) -> None:
        self._connection = connection
        self._retention = retention

    # Writing

    def add_version(self, key: str, script: str, content: Content, origin: Origin, moment_ms: int) -> Version:
        number = 1 + self._connection.value(
            "SELECT coalesce(max(number), 0) FROM versions WHERE namespace = ? AND script = ?", key, script
        )
        id = str(uuid.uuid4())
        self._connection.execute(
            """INSERT INTO versions
            (id, namespace, script, number, artifact, bindings, limits, module, origin, created_ms, used_ms)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            id,
            key,
            script,
            number,
            content.artifact,
            json.dumps([_binding_entry(binding) for binding in content.bindings]),
            _encode(content.limits),
            _encode(content.module),
            _encode(origin),
            moment_ms,
            moment_ms,
        )
        for binding in content.bindings:
            if binding.type == "secret_text":
                sealed = self._connection.seal.seal(str(binding.value).encode(), secret_context(id, binding.name))
                self._connection.execute("INSERT INTO secrets VALUES (?, ?, ?)", id, binding.name, sealed)
        return self.version(key, script, id)

    def deploy(
        self, key: str, script: str, shares: Sequence[tuple[str, float]], origin: Origin, moment_ms: int
    ) -> None:
        """Makes these versions, by id with percentages, the ones that answer. Raises `UnknownVersion`."""
        id = str(uuid.uuid4())
        self._connection.execute(
            "INSERT INTO deployments (id, namespace, script, origin, created_ms) VALUES (?, ?, ?, ?, ?)",
            id,
            key,
            script,
            _encode(origin),
            moment_ms,
        )
        self._touch_deployed(key, script, moment_ms)
        for version, percentage in shares:
            changed = self._connection.execute(
                "UPDATE versions SET used_ms = ? WHERE id = ? AND namespace = ? AND script = ?",
                moment_ms,
                version,
                key,
                script,
            )
            if not changed:
                raise UnknownVersion(version)
            self._connection.execute("INSERT INTO deployed_versions VALUES (?, ?, ?)", id, version, percentage)
        self._connection.execute(
            """INSERT INTO scripts (namespace, name, deployment, tags, created_ms) VALUES (?, ?, ?, '[]', ?)
            ON CONFLICT (namespace, name) DO UPDATE SET deployment = excluded.deployment""",
            key,
            script,
            id,
            moment_ms,
        )
        self.prune(key, script)

    def set_tags(self, key: str, script: str, tags: Sequence[str]) -> bool:
        return bool(
            self._connection.execute(
                "UPDATE scripts SET tags = ? WHERE namespace = ? AND name = ?", json.dumps(list(tags)), key, script
            )
        )

    def delete(self, key: str, script: str) -> bool:
        if not self._connection.execute("DELETE FROM scripts WHERE namespace = ? AND name = ?", key, script):
            return False
        for table in ("deployments", "versions"):
            self._connection.execute(f"DELETE FROM {table} WHERE namespace = ? AND script = ?", key, script)  # noqa: S608
        return True

    def prune(self, key: str, script: str) -> int:
        """Deletes versions and deployments that are not to be kept; how many versions."""
        horizon_ms = milliseconds(now()) - int(self._retention.days * _DAY_MS)
        old = self._connection.rows(
            """SELECT id FROM (
                SELECT v.id, v.used_ms, row_number() OVER (ORDER BY v.used_ms DESC, v.number DESC) AS position
                FROM versions AS v
                WHERE v.namespace = ?1 AND v.script = ?2 AND v.id NOT IN (
                    SELECT d.version FROM scripts AS s JOIN deployed_versions AS d ON d.deployment = s.deployment
                    WHERE s.namespace = ?1 AND s.name = ?2)
            ) WHERE position > ?3 OR used_ms < ?4""",
            key,
            script,
            self._retention.count,
            horizon_ms,
        )
        for (version,) in old:
            self._connection.execute(
                "DELETE FROM deployments WHERE id IN (SELECT deployment FROM deployed_versions WHERE version = ?)",
                version,
            )
            self._connection.execute("DELETE FROM versions WHERE id = ?", version)
        self._connection.execute(
            """DELETE FROM deployments WHERE namespace = ?1 AND script = ?2 AND sequence NOT IN (
                SELECT sequence FROM deployments WHERE namespace = ?1 AND script = ?2
                ORDER BY sequence DESC LIMIT ?3)""",
            key,
            script,
            DEPLOYMENTS_KEPT,
        )
        return len(old)

    def _touch_deployed(self, key: str, script: str, moment_ms: int) -> None:
        """What is deployed now was in use until now."""
        self._connection.execute(
            """UPDATE versions SET used_ms = ? WHERE id IN (
                SELECT d.version FROM scripts AS s JOIN deployed_versions AS d ON d.deployment = s.deployment
                WHERE s.namespace = ? AND s.name = ?)""",
            moment_ms,
            key,
            script,
        )

    # Reading

    def all(self) -> dict[tuple[str, str], Script]:
        """Every script by namespace (its name) and script."""
        rows = self._connection.rows("SELECT deployment, tags, created_ms FROM scripts")
        grants = self._grants()
        found = {}
        for row in rows:
            read = self._script(row, grants)
            found[read.current.namespace, read.current.script] = read
        return found

    def script(self, key: str, script: str) -> Script | None:
        rows = self._connection.rows(
            "SELECT deployment, tags, created_ms FROM scripts WHERE namespace = ? AND name = ?", key, script
        )
        if not rows:
            return None
        return self._script(rows[0], self._grants())

    def version(self, key: str, script: str, id: str) -> Version:
        """Raises `UnknownVersion`."""
        rows = self._connection.rows(_VERSIONS + "WHERE v.id = ? AND v.namespace = ? AND v.script = ?", id, key, script)
        if not rows:
            raise UnknownVersion(id)
        return self._version(rows[0], self._grants())

    def versions(self, key: str, script: str) -> list[Version]:
        """The newest first."""
        rows = self._connection.rows(
            _VERSIONS + "WHERE v.namespace = ? AND v.script = ? ORDER BY v.number DESC", key, script
        )
        grants = self._grants()
        return [self._version(row, grants) for row in rows]

    def deployments(self, key: str, script: str) -> list[Deployment]:
        """The newest first: the first one is at work."""
        rows = self._connection.rows(
            _DEPLOYMENTS + "WHERE namespace = ? AND script = ? ORDER BY sequence DESC", key, script
        )
        grants = self._grants()
        return [self._deployment(row, grants) for row in rows]

    def artifacts(self) -> set[str]:
        return {artifact for (artifact,) in self._connection.rows("SELECT DISTINCT artifact FROM versions")}

    def names(self) -> list[tuple[str, str]]:
        """Every script, by its namespace's key and its name."""
        return [(key, script) for key, script in self._connection.rows("SELECT namespace, name FROM scripts")]

    def _script(self, row: Sequence[Any], grants: set[tuple[str, ...]]) -> Script:
        deployment, tags, created_ms = row
        found = self._connection.rows(_DEPLOYMENTS + "WHERE id = ?", deployment)[0]
        return Script(self._deployment(found, grants), from_milliseconds(created_ms), tuple(json.loads(tags)))

    def _deployment(self, row: Sequence[Any], grants: set[tuple[str, ...]]) -> Deployment:
        id, origin, created_ms = row
        shares = self._connection.rows(
            "SELECT version, percentage FROM deployed_versions WHERE deployment = ? ORDER BY percentage DESC, version",
            id,
        )
        read = []
        for version, percentage in shares:
            rows = self._connection.rows(_VERSIONS + "WHERE v.id = ?", version)
            read.append(Share(self._version(rows[0], grants), percentage))
        return Deployment(id, tuple(read), msgspec.json.decode(origin, type=Origin), from_milliseconds(created_ms))

    def _version(self, row: Sequence[Any], grants: set[tuple[str, ...]]) -> Version:
        id, number, namespace, key, script, artifact, bindings, limits, module, origin, created_ms = row
        content = Content(
            artifact=artifact,
            bindings=tuple(self._binding(id, key, script, entry, grants) for entry in json.loads(bindings)),
            limits=msgspec.json.decode(limits, type=Limits),
            module=msgspec.json.decode(module, type=Module),
        )
        origin = msgspec.json.decode(origin, type=Origin)
        created_on = from_milliseconds(created_ms)
        return Version(id, number, namespace, script, Tenant(key, script), content, origin, created_on)

    def _binding(
        self, version: str, key: str, script: str, entry: dict[str, Any], grants: set[tuple[str, ...]]
    ) -> Binding:
        if entry["type"] in STORAGE_TYPES:
            return Binding(**entry, granted=(entry["type"], entry["resource_id"], key, script) in grants)
        if entry["type"] != "secret_text":
            return Binding(**entry)
        sealed = self._connection.value(
            "SELECT sealed FROM secrets WHERE version = ? AND binding = ?", version, entry["name"]
        )
        secret = self._connection.seal.open(sealed, secret_context(version, entry["name"])).decode()
        return Binding(**entry, value=secret)

    def _grants(self) -> set[tuple[str, ...]]:
        return set(self._connection.rows("SELECT type, id, namespace, script FROM grants WHERE NOT revoked"))


def _binding_entry(binding: Binding) -> dict[str, object]:
    entry: dict[str, object] = {"type": binding.type, "name": binding.name}
    if binding.resource_id is not None:
        entry["resource_id"] = binding.resource_id
        if binding.js_types:
            entry["js_types"] = True
    elif binding.type != "secret_text":
        entry["value"] = binding.value
    return entry


def _encode(value: object) -> str:
    return msgspec.json.encode(value).decode()
