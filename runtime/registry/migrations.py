"""The database's schema, as the numbered steps that lead to it. A step that was released is never edited.

`PRAGMA user_version` holds the number of the last step that was taken.
"""

from __future__ import annotations

import apsw

from runtime.registry.errors import RegistryError

MIGRATIONS: tuple[str, ...] = (
    """
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
    """,
)


def migrate(connection: apsw.Connection) -> None:
    """Takes the steps that are missing, each in its own transaction, even if several processes start at once.

    Raises `RegistryError` for a database from a later release.
    """
    while (version := connection.pragma("user_version")) != len(MIGRATIONS):
        if version > len(MIGRATIONS):
            raise RegistryError("The registry was written by a later release of Cloister; use that release or a later.")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.pragma("user_version") == version:
                connection.execute(MIGRATIONS[version])
                connection.pragma("user_version", version + 1)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
