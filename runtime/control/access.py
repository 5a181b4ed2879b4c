"""What the caller of a request may do: from the token that it sent to a yes or no for each route.

The admin token may do everything and is the only one that manages tokens. Every other token has some of three
permissions, for the whole platform or for one tenant. A token of a tenant's gets the same answer for what belongs to
others as for what is not there.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from host_bindings.scope import Tenant
from runtime.control.envelope import Code, ControlError
from runtime.registry import Permission, Registry, Token

Need = Literal["any", "read", "deploy", "data", "admin"]
"""What a route asks for: `any` is any token that is in force."""

Reach = Literal["platform", "script", "own", "resource"]
"""What a route touches: the platform, the script that its path names, only what the caller has itself, or a KV
namespace, bucket or database that the handler looks up by `resources.find`."""

PERMISSIONS: tuple[Permission, ...] = get_args(Permission)

ADMIN_NAME = "admin"


@dataclass(frozen=True)
class Access:
    """`tenant` None is the whole platform; `token` None is the admin token."""

    name: str
    permissions: frozenset[Permission]
    tenant: Tenant | None = None
    token: Token | None = None

    @property
    def is_admin(self) -> bool:
        return self.token is None

    def check(self, need: Need, reach: Reach, tenant: Tenant | None) -> None:
        """Raises `ControlError` (403). `tenant` is the one that the path names, None if there is no such namespace."""
        if need == "admin" and not self.is_admin:
            raise denied("Only the admin token may do this.")
        if need in PERMISSIONS and need not in self.permissions:
            raise denied(f"This token does not have the permission {need!r}.")
        if self.tenant is None or reach in ("own", "resource"):
            return
        if reach == "platform" or tenant != self.tenant:
            raise denied("This token is for one tenant alone, and this is not the tenant's.")


def denied(message: str) -> ControlError:
    return ControlError(403, Code.FORBIDDEN, message)


class Authentication:
    """Knows the admin token and those of the registry."""

    def __init__(self, admin_token: str, registry: Registry) -> None:
        self._admin_digest = hashlib.sha256(admin_token.encode()).digest()
        self._registry = registry

    def access(self, authorization: str) -> Access | None:
        """The access that an Authorization header gives; None if it gives none, whatever the reason.

        Both comparisons are made each time, of hashes and in constant time: neither the length nor a common beginning
        nor the kind of token shows in the time.
        """
        scheme, _, given = authorization.partition(" ")
        value = given.strip()
        digest = hashlib.sha256(value.encode("utf-8", "surrogateescape")).digest()
        is_admin = hmac.compare_digest(digest, self._admin_digest)
        token = self._registry.tokens.find(value)
        if scheme.lower() != "bearer":
            return None
        if is_admin:
            return Access(ADMIN_NAME, frozenset(PERMISSIONS))
        if token is None or token.status(datetime.now(UTC)) != "active":
            return None
        return Access(token.name, token.permissions, token.tenant, token)
