"""Tokens of the management API: what a caller may do who has one, and how its value is kept.

A value is `cloister_<id>_<secret>` with 256 random bits in the secret; what is kept is its SHA-256. A slow hash would
add nothing: there is no guessing such a secret.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from host_bindings.scope import Tenant

Permission = Literal["read", "deploy", "data", "call"]
"""The first three are for the management API; `call` is for the tenants' port, where such a token is a tenant's key."""

PREFIX = "cloister_"

_VALUE = re.compile(rf"{PREFIX}([0-9a-f]{{32}})_([A-Za-z0-9_-]{{43}})")
_NOBODY = bytes(32)


@dataclass(frozen=True)
class Token:
    """`tenant` None: the whole platform. Times are in UTC; `expires_on` None is never."""

    id: str
    name: str
    permissions: frozenset[Permission]
    tenant: Tenant | None
    created_on: datetime
    modified_on: datetime
    not_before: datetime | None
    expires_on: datetime | None
    digest: bytes = field(repr=False)
    disabled: bool = False
    """Whether somebody has switched it off."""

    def status(self, now: datetime) -> Literal["active", "expired", "disabled"]:
        """`disabled` if it is switched off, and before its first day, as Cloudflare calls it."""
        if self.expires_on is not None and now >= self.expires_on:
            return "expired"
        early = self.not_before is not None and now < self.not_before
        return "disabled" if self.disabled or early else "active"


def new_id() -> str:
    return secrets.token_hex(16)


def new_value(id: str) -> tuple[str, bytes]:
    """A value for the token with this id, and its digest. The value is shown once and kept nowhere."""
    value = f"{PREFIX}{id}_{secrets.token_urlsafe(32)}"
    return value, hashlib.sha256(value.encode()).digest()


def id_of(value: str) -> str | None:
    """The id that a token's value names, whether or not there is such a token."""
    match = _VALUE.fullmatch(value)
    return match[1] if match else None


def is_value_of(value: str, token: Token | None) -> bool:
    """Compares in constant time, and takes that time for a token that does not exist too."""
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
    return hmac.compare_digest(digest, token.digest if token is not None else _NOBODY) and token is not None
