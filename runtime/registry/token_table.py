"""Tokens in the registry's database. Everything here blocks and belongs to the registry's thread."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any

from host_bindings.scope import Tenant
from runtime.registry.connection import RegistryConnection, from_milliseconds, milliseconds, now
from runtime.registry.tokens import Permission, Token, new_id, new_value

_COLUMNS = """
    SELECT id, name, permissions, namespace, script, created_ms, modified_ms, not_before_ms, expires_ms, digest,
        disabled
    FROM tokens
"""


class TokenTable:
    def __init__(self, connection: RegistryConnection) -> None:
        self._connection = connection

    def create(
        self,
        name: str,
        permissions: Collection[Permission],
        tenant: Tenant | None,
        not_before: datetime | None,
        expires_on: datetime | None,
    ) -> tuple[Token, str]:
        """The token and its value, which nobody can find out later."""
        id, created_ms = new_id(), milliseconds(now())
        value, digest = new_value(id)
        self._connection.execute(
            "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
            id,
            name,
            digest,
            json.dumps(sorted(permissions)),
            tenant.namespace if tenant else None,
            tenant.script if tenant else None,
            created_ms,
            created_ms,
            milliseconds(not_before) if not_before else None,
            milliseconds(expires_on) if expires_on else None,
        )
        (row,) = self._connection.rows(_COLUMNS + "WHERE id = ?", id)
        return _read(row), value

    def update(
        self,
        id: str,
        name: str,
        permissions: Collection[Permission],
        tenant: Tenant | None,
        not_before: datetime | None,
        expires_on: datetime | None,
        disabled: bool,
    ) -> bool:
        """Everything but its value; False if there is no such token."""
        changed = self._connection.execute(
            """UPDATE tokens SET name = ?, permissions = ?, namespace = ?, script = ?, modified_ms = ?,
                not_before_ms = ?, expires_ms = ?, disabled = ? WHERE id = ?""",
            name,
            json.dumps(sorted(permissions)),
            tenant.namespace if tenant else None,
            tenant.script if tenant else None,
            milliseconds(now()),
            milliseconds(not_before) if not_before else None,
            milliseconds(expires_on) if expires_on else None,
            int(disabled),
            id,
        )
        return bool(changed)

    def roll(self, id: str) -> str | None:
        """A new value for a token, in place of the old one; None if there is no such token."""
        value, digest = new_value(id)
        changed = self._connection.execute(
            "UPDATE tokens SET digest = ?, modified_ms = ? WHERE id = ?", digest, milliseconds(now()), id
        )
        return value if changed else None

    def delete(self, id: str) -> bool:
        return bool(self._connection.execute("DELETE FROM tokens WHERE id = ?", id))

    def all(self) -> dict[str, Token]:
        """By id, the oldest first."""
        return {row[0]: _read(row) for row in self._connection.rows(_COLUMNS + "ORDER BY created_ms, id")}


def _read(row: tuple[Any, ...]) -> Token:
    id, name, permissions, namespace, script, created_ms, modified_ms, not_before_ms, expires_ms, *rest = row
    digest, disabled = rest
    return Token(
        id=id,
        name=name,
        permissions=frozenset(json.loads(permissions)),
        tenant=Tenant(namespace, script) if namespace is not None else None,
        created_on=from_milliseconds(created_ms),
        modified_on=from_milliseconds(modified_ms),
        not_before=from_milliseconds(not_before_ms) if not_before_ms is not None else None,
        expires_on=from_milliseconds(expires_ms) if expires_ms is not None else None,
        digest=digest,
        disabled=bool(disabled),
    )
