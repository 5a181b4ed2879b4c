"""The registry's SQL. Everything here blocks and belongs to one thread: `registry.Registry` owns that thread."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import msgspec

from host_bindings.scope import Binding
from runtime.engine.limits import Limits
from runtime.registry.errors import NamespaceExists, NamespaceNotEmpty, RegistryError, UnknownNamespace
from runtime.registry.migrations import migrate
from runtime.registry.seal import Seal
from runtime.registry.versions import Namespace, Script, Version

VERSIONS_KEPT = 10
"""How many versions of a script stay: the current one and those before it."""

CHANGES_KEPT = 10_000
"""A process that missed more changes than this reads everything again."""

_BUSY_MS = 10_000

_SCRIPT_COLUMNS = """
    SELECT v.id, v.number, v.namespace, v.script, v.artifact, v.bindings, v.limits, v.tags, v.created_ms, s.created_ms
    FROM scripts AS s JOIN versions AS v ON v.id = s.current
"""

Key = tuple[str, str]
"""Namespace and script."""


class RegistryDatabase:
    """An open connection. Raises `RegistryError` if the file is not a registry or cannot be opened."""

    def __init__(self, path: Path, seal: Seal) -> None:
        self._seal = seal
        try:
            # SQLite gives its -wal and -shm files the mode of the file itself.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            os.chmod(path, 0o600)
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        except (OSError, apsw.Error) as error:
            raise RegistryError(f"The registry {path} cannot be opened: {error}") from error
        try:
            self._prepare()
        except apsw.Error as error:
            self._connection.close()
            raise RegistryError(f"The registry {path} is damaged or not a registry: {error}") from error
        except RegistryError:
            self._connection.close()
            raise
        self._sequence = -1

    def _prepare(self) -> None:
        connection = self._connection
        connection.set_busy_timeout(_BUSY_MS)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        for name, value in (("journal_mode", "WAL"), ("synchronous", "FULL"), ("foreign_keys", 1)):
            connection.pragma(name, value)
        connection.pragma("trusted_schema", 0)
        # What is deleted is overwritten: a secret does not stay behind in a free page.
        connection.pragma("secure_delete", 1)
        migrate(connection)

    def close(self) -> None:
        self._connection.close()

    def data_version(self) -> int:
        """A number that differs from the last one if another connection has written."""
        return int(self._connection.pragma("data_version"))

    # Namespaces

    def create_namespace(self, name: str) -> Namespace:
        namespace = Namespace(str(uuid.uuid4()), name, _now(), 0)
        with self._writing():
            if self._has_namespace(name):
                raise NamespaceExists(name)
            row = (name, namespace.id, _milliseconds(namespace.created_on))
            self._connection.execute("INSERT INTO namespaces (name, id, created_ms) VALUES (?, ?, ?)", row)
        return namespace

    def list_namespaces(self) -> list[Namespace]:
        rows = self._rows(
            """SELECT id, name, created_ms, (SELECT count(*) FROM scripts WHERE namespace = namespaces.name)
            FROM namespaces ORDER BY name"""
        )
        return [Namespace(id, name, _time(created_ms), count) for id, name, created_ms, count in rows]

    def delete_namespace(self, name: str) -> bool:
        with self._writing():
            count = self._value("SELECT count(*) FROM scripts WHERE namespace = ?", name)
            if count:
                raise NamespaceNotEmpty(name, count)
            self._connection.execute("DELETE FROM namespaces WHERE name = ?", (name,))
            return self._connection.changes() == 1

    def _has_namespace(self, name: str) -> bool:
        return bool(self._value("SELECT count(*) FROM namespaces WHERE name = ?", name))

    # Scripts

    def deploy(
        self,
        namespace: str,
        script: str,
        artifact: str,
        bindings: Sequence[Binding],
        limits: Limits,
        tags: Sequence[str],
    ) -> Version:
        with self._writing():
            if not self._has_namespace(namespace):
                raise UnknownNamespace(namespace)
            number = 1 + self._value(
                "SELECT coalesce(max(number), 0) FROM versions WHERE namespace = ? AND script = ?", namespace, script
            )
            version = Version(
                id=str(uuid.uuid4()),
                number=number,
                namespace=namespace,
                script=script,
                artifact=artifact,
                bindings=tuple(bindings),
                limits=limits,
                tags=tuple(tags),
                created_on=_now(),
            )
            self._insert(version)
            self._connection.execute(
                """INSERT INTO scripts (namespace, name, current, created_ms) VALUES (?, ?, ?, ?)
                ON CONFLICT (namespace, name) DO UPDATE SET current = excluded.current""",
                (namespace, script, version.id, _milliseconds(version.created_on)),
            )
            self._connection.execute(
                "DELETE FROM versions WHERE namespace = ? AND script = ? AND number <= ?",
                (namespace, script, number - VERSIONS_KEPT),
            )
            self._record_change(namespace, script)
        return version

    def delete(self, namespace: str, script: str) -> bool:
        with self._writing():
            self._connection.execute("DELETE FROM scripts WHERE namespace = ? AND name = ?", (namespace, script))
            if not self._connection.changes():
                return False
            self._connection.execute("DELETE FROM versions WHERE namespace = ? AND script = ?", (namespace, script))
            self._record_change(namespace, script)
        return True

    def referenced_artifacts(self) -> set[str]:
        return {artifact for (artifact,) in self._rows("SELECT DISTINCT artifact FROM versions")}

    def _insert(self, version: Version) -> None:
        limits = msgspec.json.encode(version.limits).decode()
        self._connection.execute(
            """INSERT INTO versions (id, namespace, script, number, artifact, bindings, limits, tags, created_ms)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (
                version.id,
                version.namespace,
                version.script,
                version.number,
                version.artifact,
                json.dumps([_binding_entry(binding) for binding in version.bindings]),
                limits,
                json.dumps(version.tags),
                _milliseconds(version.created_on),
            ),
        )
        for binding in version.bindings:
            if binding.type == "secret_text":
                sealed = self._seal.seal(str(binding.value).encode(), _secret_context(version.id, binding.name))
                self._connection.execute(
                    "INSERT INTO secrets (version, binding, sealed) VALUES (?, ?, ?)",
                    (version.id, binding.name, sealed),
                )

    def _record_change(self, namespace: str, script: str) -> None:
        self._connection.execute("INSERT INTO changes (namespace, script) VALUES (?, ?)", (namespace, script))
        horizon = self._connection.last_insert_rowid() - CHANGES_KEPT
        self._connection.execute("DELETE FROM changes WHERE sequence <= ?", (horizon,))

    # What changed

    def changes(self) -> dict[Key, Script | None] | None:
        """The scripts that changed since the last call, with what they are now: None if they are gone.

        None instead of the dictionary: too much was missed (always so at first); read `all_scripts`.
        """
        with self._reading():
            latest = self._value("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'changes'")
            if self._sequence < 0 or latest - self._sequence > CHANGES_KEPT:
                return None
            keys = self._rows("SELECT DISTINCT namespace, script FROM changes WHERE sequence > ?", self._sequence)
            changed = {(namespace, script): self._script(namespace, script) for namespace, script in keys}
            self._sequence = latest
        return changed

    def all_scripts(self) -> dict[Key, Script]:
        with self._reading():
            self._sequence = self._value("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'changes'")
            return {(row[2], row[3]): self._read(row) for row in self._rows(_SCRIPT_COLUMNS)}

    def _script(self, namespace: str, script: str) -> Script | None:
        rows = self._rows(_SCRIPT_COLUMNS + "WHERE s.namespace = ? AND s.name = ?", namespace, script)
        return self._read(rows[0]) if rows else None

    def _read(self, row: Sequence[Any]) -> Script:
        id, number, namespace, script, artifact, bindings, limits, tags, created_ms, first_ms = row
        version = Version(
            id=id,
            number=number,
            namespace=namespace,
            script=script,
            artifact=artifact,
            bindings=tuple(self._binding(id, entry) for entry in json.loads(bindings)),
            limits=msgspec.json.decode(limits, type=Limits),
            tags=tuple(json.loads(tags)),
            created_on=_time(created_ms),
        )
        return Script(version, _time(first_ms))

    def _binding(self, version: str, entry: dict[str, Any]) -> Binding:
        if entry["type"] != "secret_text":
            return Binding(**entry)
        sealed = self._value("SELECT sealed FROM secrets WHERE version = ? AND binding = ?", version, entry["name"])
        secret = self._seal.open(sealed, _secret_context(version, entry["name"])).decode()
        return Binding(**entry, value=secret)

    # Transactions

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction that no other can come between; what it wrote is on disk when it ends."""
        with self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        with self._transaction("BEGIN"):
            yield

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._connection.execute(begin)
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _rows(self, sql: str, *parameters: str | int) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters).fetchall()

    def _value(self, sql: str, *parameters: str | int) -> Any:
        """The one value of the one row."""
        ((value,),) = self._rows(sql, *parameters)
        return value


def _binding_entry(binding: Binding) -> dict[str, object]:
    entry: dict[str, object] = {"type": binding.type, "name": binding.name}
    if binding.resource_id is not None:
        entry["resource_id"] = binding.resource_id
    elif binding.type != "secret_text":
        entry["value"] = binding.value
    return entry


def _secret_context(version: str, binding: str) -> bytes:
    return f"{version}/{binding}".encode()


def _now() -> datetime:
    return _time(time.time_ns() // 1_000_000)


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
