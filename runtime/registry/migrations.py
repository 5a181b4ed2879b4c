"""The database's schema, as the numbered steps that lead to it. A step that was released is never edited.

`PRAGMA user_version` holds the number of the last step that was taken.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import apsw

from host_bindings.scope import STORAGE_TYPES, Tenant
from runtime.registry.errors import RegistryError
from runtime.registry.resources import private_id, private_name
from runtime.registry.seal import PROOF, Seal, secret_context

Step = Callable[[apsw.Connection, Seal], None]

_FIRST = """
    CREATE TABLE namespaces (
        name TEXT NOT NULL PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        created_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- bindings, limits, tags: JSON. The values of secrets are in `secrets`.
    CREATE TABLE versions (
        id TEXT NOT NULL PRIMARY KEY,
        namespace TEXT NOT NULL REFERENCES namespaces (name),
        script TEXT NOT NULL,
        number INTEGER NOT NULL,
        artifact TEXT NOT NULL,
        bindings TEXT NOT NULL,
        limits TEXT NOT NULL,
        tags TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        UNIQUE (namespace, script, number)
    ) STRICT;

    -- The pointer to the version that answers requests.
    CREATE TABLE scripts (
        namespace TEXT NOT NULL REFERENCES namespaces (name),
        name TEXT NOT NULL,
        current TEXT NOT NULL REFERENCES versions (id),
        created_ms INTEGER NOT NULL,
        PRIMARY KEY (namespace, name)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE secrets (
        version TEXT NOT NULL REFERENCES versions (id) ON DELETE CASCADE,
        binding TEXT NOT NULL,
        sealed BLOB NOT NULL,
        PRIMARY KEY (version, binding)
    ) STRICT, WITHOUT ROWID;

    -- Which scripts changed, in order: what another process has to read again.
    CREATE TABLE changes (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        namespace TEXT NOT NULL,
        script TEXT NOT NULL
    ) STRICT;
    """

_DEPLOYMENTS = """
    -- `key` names the storage of the namespace's tenants and never changes; all other tables mean the key.
    ALTER TABLE namespaces RENAME COLUMN name TO key;
    ALTER TABLE namespaces ADD COLUMN name TEXT NOT NULL DEFAULT '';
    ALTER TABLE namespaces ADD COLUMN trusted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE namespaces ADD COLUMN modified_ms INTEGER NOT NULL DEFAULT 0;
    UPDATE namespaces SET name = key, modified_ms = created_ms;
    CREATE UNIQUE INDEX namespaces_by_name ON namespaces (name);
    -- Keys that stay reserved though their namespace, renamed since, is gone.
    CREATE TABLE retired_keys (key TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;

    -- module, origin: JSON. used_ms: when the version was last deployed, or made.
    ALTER TABLE versions ADD COLUMN module TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE versions ADD COLUMN origin TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE versions ADD COLUMN used_ms INTEGER NOT NULL DEFAULT 0;
    UPDATE versions SET used_ms = created_ms;

    CREATE TABLE deployments (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        namespace TEXT NOT NULL REFERENCES namespaces (key),
        script TEXT NOT NULL,
        origin TEXT NOT NULL,
        created_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX deployments_by_script ON deployments (namespace, script);
    CREATE TABLE deployed_versions (
        deployment TEXT NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
        version TEXT NOT NULL REFERENCES versions (id),
        percentage REAL NOT NULL,
        PRIMARY KEY (deployment, version)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX deployed_versions_by_version ON deployed_versions (version);

    -- The pointer to the deployment that answers requests.
    CREATE TABLE deployed_scripts (
        namespace TEXT NOT NULL REFERENCES namespaces (key),
        name TEXT NOT NULL,
        deployment TEXT NOT NULL REFERENCES deployments (id),
        tags TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        PRIMARY KEY (namespace, name)
    ) STRICT, WITHOUT ROWID;

    -- namespace and script: the tenant that owns it, NULL for the platform.
    CREATE TABLE resources (
        type TEXT NOT NULL,
        id TEXT NOT NULL,
        namespace TEXT,
        script TEXT,
        resource_id TEXT NOT NULL,
        name TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        PRIMARY KEY (type, id)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX resources_by_owner ON resources
        (type, coalesce(namespace, ''), coalesce(script, ''), resource_id);
    CREATE UNIQUE INDEX resources_by_name ON resources (type, coalesce(namespace, ''), coalesce(script, ''), name);
    CREATE TABLE grants (
        type TEXT NOT NULL,
        id TEXT NOT NULL,
        namespace TEXT NOT NULL,
        script TEXT NOT NULL,
        revoked INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        PRIMARY KEY (type, id, namespace, script),
        FOREIGN KEY (type, id) REFERENCES resources (type, id) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;

    -- namespace and script: the only tenant that the token is for, NULL for the whole platform.
    CREATE TABLE tokens (
        id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        digest BLOB NOT NULL,
        permissions TEXT NOT NULL,
        namespace TEXT,
        script TEXT,
        created_ms INTEGER NOT NULL,
        modified_ms INTEGER NOT NULL,
        not_before_ms INTEGER,
        expires_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    """


def _add_deployments(connection: apsw.Connection, seal: Seal) -> None:
    """Each script gets a deployment of the version that was current; what bindings name is listed as resources."""
    connection.execute(_DEPLOYMENTS)
    scripts = _rows(connection, "SELECT namespace, name, current, created_ms FROM scripts")
    for namespace, script, version, first_ms in scripts:
        deployment = str(uuid.uuid4())
        ((tags, created_ms),) = _rows(connection, "SELECT tags, created_ms FROM versions WHERE id = ?", version)
        connection.execute(
            "INSERT INTO deployments (id, namespace, script, origin, created_ms) VALUES (?, ?, ?, '{}', ?)",
            (deployment, namespace, script, created_ms),
        )
        connection.execute("INSERT INTO deployed_versions VALUES (?, ?, 100.0)", (deployment, version))
        connection.execute(
            "INSERT INTO deployed_scripts VALUES (?, ?, ?, ?, ?)", (namespace, script, deployment, tags, first_ms)
        )
    connection.execute("DROP TABLE scripts; ALTER TABLE deployed_scripts RENAME TO scripts")
    connection.execute("ALTER TABLE versions DROP COLUMN tags")
    rows = _rows(connection, "SELECT namespace, script, bindings, created_ms FROM versions ORDER BY created_ms")
    for namespace, script, bindings, created_ms in rows:
        owner = Tenant(namespace, script)
        for entry in json.loads(bindings):
            if entry["type"] in STORAGE_TYPES:
                type, resource_id = entry["type"], entry["resource_id"]
                id, name = private_id(type, owner, resource_id), private_name(owner, resource_id)
                connection.execute(
                    "INSERT INTO resources VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (type, id, namespace, script, resource_id, name, created_ms),
                )


def _seal_secrets(connection: apsw.Connection, seal: Seal) -> None:
    """Secrets that were kept as they are become sealed ones."""
    connection.execute("CREATE TABLE seal (proof BLOB NOT NULL) STRICT")
    connection.execute("INSERT INTO seal VALUES (?)", (seal.seal(PROOF, PROOF),))
    for version, binding, secret in _rows(connection, "SELECT version, binding, sealed FROM secrets"):
        sealed = seal.seal(secret, secret_context(version, binding))
        connection.execute(
            "UPDATE secrets SET sealed = ? WHERE version = ? AND binding = ?", (sealed, version, binding)
        )


def _rows(connection: apsw.Connection, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql, parameters).fetchall()


def _run(sql: str) -> Step:
    def step(connection: apsw.Connection, seal: Seal) -> None:
        connection.execute(sql)

    return step


_DISABLED_TOKENS = "ALTER TABLE tokens ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0"

MIGRATIONS: tuple[Step, ...] = (_run(_FIRST), _add_deployments, _seal_secrets, _run(_DISABLED_TOKENS))


def migrate(connection: apsw.Connection, seal: Seal) -> None:
    """Takes the steps that are missing, each in its own transaction, even if several processes start at once.

    Foreign keys must be off: a step may make a table anew. Raises `RegistryError` for a database from a later
    release, or one whose secrets were sealed with another key.
    """
    before = connection.pragma("user_version")
    while (version := connection.pragma("user_version")) != len(MIGRATIONS):
        if version > len(MIGRATIONS):
            raise RegistryError("The registry was written by a later release of Cloister; use that release or a later.")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.pragma("user_version") == version:
                MIGRATIONS[version](connection, seal)
                if violations := connection.execute("PRAGMA foreign_key_check").fetchall():
                    raise RegistryError(f"The registry is damaged: {len(violations)} rows refer to what is not there.")
                connection.pragma("user_version", version + 1)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    if 0 < before < len(MIGRATIONS):
        # What a step has overwritten must not stay readable in the log.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ((proof,),) = _rows(connection, "SELECT proof FROM seal")
    seal.choose(proof)
