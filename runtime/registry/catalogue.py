"""Resources, grants and tokens as the rest of the runtime sees them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

from host_bindings.scope import BindingType, Tenant
from runtime.registry.resources import Grant, ResourceRecord
from runtime.registry.tokens import Permission, Token, id_of, is_value_of

if TYPE_CHECKING:
    from runtime.registry.registry import Registry


class ResourceCatalogue:
    """What there is to bind, and who may. See `registry.resources` for the values."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def create(self, type: BindingType, owner: Tenant | None, resource_id: str, name: str) -> ResourceRecord:
        """Raises `ResourceExists`."""
        return await self._registry.write(lambda db: db.resources.create(type, owner, resource_id, name))

    async def find(self, type: BindingType, id: str) -> ResourceRecord | None:
        return await self._registry.read(lambda db: db.resources.find(type, id))

    async def find_owned(self, type: BindingType, owner: Tenant | None, resource_id: str) -> ResourceRecord | None:
        """By the name that the owner's bindings give it."""
        return await self._registry.read(lambda db: db.resources.find_owned(type, owner, resource_id))

    async def of_type(self, type: BindingType, tenant: Tenant | None = None) -> list[ResourceRecord]:
        """By name; with a tenant only its own and what it has been granted."""
        return await self._registry.read(lambda db: db.resources.of_type(type, tenant))

    async def owners(self) -> list[Tenant]:
        """The tenants that have resources, deployed or not."""
        return await self._registry.read(lambda db: db.resources.owners())

    async def rename(self, type: BindingType, id: str, name: str) -> ResourceRecord:
        """Raises `UnknownResource`, `ResourceExists`."""
        return await self._registry.write(lambda db: db.resources.rename(type, id, name))

    async def delete(self, type: BindingType, id: str) -> bool:
        """Takes it off the list; its data stays. Raises `ResourceInUse`."""
        return await self._registry.change(lambda db: db.delete_resource(type, id))

    async def forget_tenant(self, owner: Tenant) -> None:
        await self._registry.write(lambda db: db.resources.forget_tenant(owner))

    async def grant(self, type: BindingType, id: str, tenant: Tenant) -> None:
        """Lets a tenant bind a resource of the platform's; holds at once. Raises `UnknownResource`."""
        await self._registry.change(lambda db: db.grant(type, id, tenant))

    async def revoke(self, type: BindingType, id: str, tenant: Tenant) -> bool:
        return await self._registry.change(lambda db: db.revoke(type, id, tenant))

    async def grants(self, type: BindingType, id: str) -> list[Grant]:
        return await self._registry.read(lambda db: db.resources.grants(type, id))

    async def is_granted(self, type: BindingType, id: str, tenant: Tenant) -> bool:
        return await self._registry.read(lambda db: db.resources.is_granted(type, id, tenant))


class TokenCatalogue:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._tokens: dict[str, Token] = {}

    def find(self, value: str) -> Token | None:
        """The token with this value, from memory, whether or not it is in force. Takes the same time for every value
        of the right length."""
        token = self._tokens.get(id_of(value) or "")
        return token if is_value_of(value, token) else None

    def get(self, id: str) -> Token | None:
        return self._tokens.get(id)

    def all(self) -> list[Token]:
        return list(self._tokens.values())

    def replace(self, tokens: dict[str, Token]) -> None:
        """For the registry, when it has read them again."""
        self._tokens = tokens

    async def create(
        self,
        name: str,
        permissions: Collection[Permission],
        tenant: Tenant | None = None,
        *,
        not_before: datetime | None = None,
        expires_on: datetime | None = None,
    ) -> tuple[Token, str]:
        """A token and its value, which is kept nowhere."""
        return await self._registry.change(
            lambda db: db.tokens.create(name, permissions, tenant, not_before, expires_on)
        )

    async def update(
        self,
        id: str,
        name: str,
        permissions: Collection[Permission],
        tenant: Tenant | None = None,
        *,
        not_before: datetime | None = None,
        expires_on: datetime | None = None,
        disabled: bool = False,
    ) -> Token | None:
        """Replaces all that a token says, but its value; None if there is no such token."""
        await self._registry.change(
            lambda db: db.tokens.update(id, name, permissions, tenant, not_before, expires_on, disabled)
        )
        return self.get(id)

    async def roll(self, id: str) -> str | None:
        """A new value in place of the old one, which ends at once; None if there is no such token."""
        return await self._registry.change(lambda db: db.tokens.roll(id))

    async def delete(self, id: str) -> bool:
        """Ends a token at once; other processes notice within a moment."""
        return await self._registry.change(lambda db: db.tokens.delete(id))
