"""How the values of secrets are kept in the database: the one place where encryption at rest comes in."""

from __future__ import annotations

from typing import Protocol


class Seal(Protocol):
    """Turns a secret into what is stored, and back.

    `context` says what the secret belongs to (version and binding); a seal that authenticates binds it in, so that a
    stored secret moved to another row does not open.
    """

    def seal(self, secret: bytes, context: bytes) -> bytes: ...

    def open(self, sealed: bytes, context: bytes) -> bytes: ...


class Unsealed:
    """Keeps secrets as they are: what protects them is the mode of the files, 0600."""

    def seal(self, secret: bytes, context: bytes) -> bytes:
        return secret

    def open(self, sealed: bytes, context: bytes) -> bytes:
        return sealed
