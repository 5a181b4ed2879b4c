"""Tokens: the caller's own (`verify`), and for the admin token all of them: create, list, show, roll, revoke.

In the shape of Cloudflare's user tokens, of which a policy gives permission groups on resources; a resource here is
the account or one tenant. `tenant` and `permissions` say the same in fewer words.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from host_bindings.scope import Tenant
from runtime.control.access import PERMISSIONS
from runtime.control.envelope import Code, ControlError, invalid
from runtime.control.routes import ACCOUNT, Call, JsonBody, NoQuery, Result, Route
from runtime.control.shapes import timestamp
from runtime.registry import Permission, Token, UnknownNamespace
from runtime.settings import NAME_PATTERN

_logger = logging.getLogger(__name__)

_ACCOUNT_RESOURCE = f"com.cloudflare.api.account.{ACCOUNT}"
_ACCOUNT_RESOURCES = {_ACCOUNT_RESOURCE, "com.cloudflare.api.account.*"}
_TENANT_RESOURCE = "cloister.tenant."

GROUPS: Mapping[str, Permission] = {
    "00000000000000000000000000000001": "read",
    "00000000000000000000000000000002": "deploy",
    "00000000000000000000000000000003": "data",
    "00000000000000000000000000000004": "call",
}
"""Permission groups by id."""

_DESCRIPTIONS: Mapping[Permission, str] = {
    "read": "List and show namespaces, scripts, versions, settings and resources; no data and no secrets",
    "deploy": "Upload, change, roll back and delete scripts; set secrets",
    "data": "Read and write keys, objects and databases; create and delete them",
    "call": "Call the tenant's worker on the tenants' port, where the resolver is `key`",
}


class Group(msgspec.Struct, frozen=True):
    id: str = ""
    name: str = ""
    meta: dict[str, Any] | None = None


class Policy(msgspec.Struct, frozen=True):
    permission_groups: list[Group]
    resources: dict[str, Any]
    effect: str = "allow"
    id: str = ""


class NewToken(msgspec.Struct, frozen=True):
    """`permissions` of `read`, `deploy`, `data`; `tenant` is `namespace/script`, without it the token is for the whole
    platform. Or `policies`, one at most for tenants."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
    policies: list[Policy] | None = None
    permissions: list[str] | None = None
    tenant: str | None = None
    not_before: datetime | None = None
    expires_on: datetime | None = None
    condition: dict[str, Any] | None = None


class UpdatedToken(NewToken, frozen=True):
    """All that a token says: what is left out is gone. Its value stays."""

    status: Literal["active", "disabled"] = "active"


class GroupResult(msgspec.Struct, frozen=True):
    id: str
    name: str
    scopes: list[str]
    description: str = ""


class PolicyResult(msgspec.Struct, frozen=True):
    id: str
    effect: str
    resources: dict[str, str]
    permission_groups: list[Group]


class TokenResult(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    name: str
    status: str
    issued_on: str
    modified_on: str
    permissions: list[str]
    policies: list[PolicyResult]
    tenant: str | None = None
    not_before: str | None = None
    expires_on: str | None = None
    value: str | None = None
    """Only in the answer to its creation."""


class VerifyResult(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    status: str
    not_before: str | None = None
    expires_on: str | None = None


async def verify(call: Call[NoQuery, None]) -> Result:
    token = call.access.token
    if token is None:
        return Result(VerifyResult("admin", "active"), messages=["This API Token is valid and active"])
    shown = VerifyResult(
        token.id, token.status(datetime.now(UTC)), _moment(token.not_before), _moment(token.expires_on)
    )
    return Result(shown, messages=["This API Token is valid and active"])


async def list_tokens(call: Call[NoQuery, None]) -> Result:
    names = await _namespace_names(call)
    return Result([_result(token, names) for token in call.parts.registry.tokens.all()])


async def get_token(call: Call[NoQuery, None]) -> Result:
    return Result(_result(_find(call), await _namespace_names(call)))


async def create_token(call: Call[NoQuery, NewToken]) -> Result:
    wanted = await _read(call)
    token, value = await call.parts.registry.tokens.create(
        call.body.name,
        wanted.permissions,
        wanted.tenant,
        not_before=wanted.not_before,
        expires_on=wanted.expires_on,
    )
    _logger.info("created a token", extra={"fields": _logged(token)})
    shown = _result(token, await _namespace_names(call))
    return Result(msgspec.structs.replace(shown, value=value))


async def update_token(call: Call[NoQuery, UpdatedToken]) -> Result:
    """Holds at once: a token that was narrowed, switched off or given an end may do no more than that."""
    wanted = await _read(call)
    token = await call.parts.registry.tokens.update(
        _find(call).id,
        call.body.name,
        wanted.permissions,
        wanted.tenant,
        not_before=wanted.not_before,
        expires_on=wanted.expires_on,
        disabled=call.body.status == "disabled",
    )
    if token is None:
        raise _unknown(call.path["token"])
    _logger.info("updated a token", extra={"fields": {**_logged(token), "status": call.body.status}})
    return Result(_result(token, await _namespace_names(call)))


async def roll_token(call: Call[NoQuery, Any]) -> Result:
    """A new value; the old one ends at once."""
    value = await call.parts.registry.tokens.roll(_find(call).id)
    if value is None:
        raise _unknown(call.path["token"])
    _logger.info("rolled a token", extra={"fields": {"token": call.path["token"]}})
    return Result(value)


async def delete_token(call: Call[NoQuery, None]) -> Result:
    token = _find(call)
    await call.parts.registry.tokens.delete(token.id)
    _logger.info("revoked a token", extra={"fields": {"token": token.id, "name": token.name}})
    return Result({"id": token.id})


async def list_groups(call: Call[NoQuery, None]) -> Result:
    scopes = ["com.cloudflare.api.account"]
    return Result([GroupResult(id, name, scopes, _DESCRIPTIONS[name]) for id, name in GROUPS.items()])


@dataclass(frozen=True)
class _Wanted:
    permissions: set[Permission]
    tenant: Tenant | None
    not_before: datetime | None
    expires_on: datetime | None


async def _read(call: Call[NoQuery, Any]) -> _Wanted:
    """What the body of a request asks for. Raises `ControlError`."""
    body: NewToken = call.body
    permissions, tenant_name = _read_policies(body)
    if body.condition:
        raise invalid("condition: is not offered here: the management port is reached from this machine only.")
    if body.expires_on is not None and _utc(body.expires_on) <= datetime.now(UTC):
        raise invalid("expires_on: is over already.")
    return _Wanted(
        permissions,
        None if tenant_name is None else await _tenant(call, tenant_name),
        _utc(body.not_before) if body.not_before else None,
        _utc(body.expires_on) if body.expires_on else None,
    )


def _logged(token: Token) -> dict[str, object]:
    tenant = None if token.tenant is None else f"{token.tenant.namespace}/{token.tenant.script}"
    return {"token": token.id, "name": token.name, "permissions": sorted(token.permissions), "tenant": tenant}


def _read_policies(body: NewToken) -> tuple[set[Permission], str | None]:
    """The permissions, and the tenant as `namespace/script`."""
    if body.policies is None:
        return _permissions(body.permissions or []), body.tenant
    if body.permissions is not None or body.tenant is not None:
        raise invalid("policies: cannot be given together with permissions or tenant.")
    permissions: set[Permission] = set()
    tenants: set[str | None] = set()
    for policy in body.policies:
        if policy.effect != "allow":
            raise invalid("policies: the effect can only be 'allow'.")
        permissions |= _permissions(
            [GROUPS.get(group.id, group.name or group.id) for group in policy.permission_groups]
        )
        tenants |= {_tenant_of_resource(resource) for resource in policy.resources}
    if len(tenants) != 1:
        raise invalid(
            f"policies: a token is for one thing, either {_ACCOUNT_RESOURCE!r} or '{_TENANT_RESOURCE}NAMESPACE/SCRIPT'."
        )
    return permissions, tenants.pop()


def _permissions(names: Sequence[str]) -> set[Permission]:
    found: set[Permission] = {permission for permission in PERMISSIONS if permission in names}
    if unknown := set(names) - found:
        raise invalid(f"permissions: {sorted(unknown)[0][:80]!a} is none; they are {', '.join(PERMISSIONS)}.")
    if not found:
        raise invalid(f"permissions: give at least one of {', '.join(PERMISSIONS)}.")
    return found


def _tenant_of_resource(resource: str) -> str | None:
    if resource in _ACCOUNT_RESOURCES:
        return None
    if resource.startswith(_TENANT_RESOURCE):
        return resource.removeprefix(_TENANT_RESOURCE)
    raise invalid(f"policies: there is no resource {resource[:80]!a}.")


async def _tenant(call: Call[Any, Any], name: str) -> Tenant:
    """The script need not be there yet."""
    match = re.fullmatch(r"([^/]+)/([^/]+)", name)
    if match is None or not NAME_PATTERN.fullmatch(match[2]):
        raise invalid("tenant: must be NAMESPACE/SCRIPT.")
    for namespace in await call.parts.registry.list_namespaces():
        if namespace.name == match[1]:
            return Tenant(namespace.key, match[2])
    raise UnknownNamespace(match[1])


async def _namespace_names(call: Call[Any, Any]) -> Mapping[str, str]:
    """By key."""
    return {namespace.key: namespace.name for namespace in await call.parts.registry.list_namespaces()}


def _result(token: Token, names: Mapping[str, str]) -> TokenResult:
    tenant = None
    if token.tenant is not None:
        tenant = f"{names.get(token.tenant.namespace, token.tenant.namespace)}/{token.tenant.script}"
    resource = _ACCOUNT_RESOURCE if tenant is None else _TENANT_RESOURCE + tenant
    groups = [Group(id, name) for id, name in GROUPS.items() if name in token.permissions]
    return TokenResult(
        id=token.id,
        name=token.name,
        status=token.status(datetime.now(UTC)),
        issued_on=timestamp(token.created_on),
        modified_on=timestamp(token.modified_on),
        permissions=sorted(token.permissions),
        policies=[PolicyResult(token.id, "allow", {resource: "*"}, groups)],
        tenant=tenant,
        not_before=_moment(token.not_before),
        expires_on=_moment(token.expires_on),
    )


def _find(call: Call[Any, Any]) -> Token:
    found = call.parts.registry.tokens.get(call.path["token"])
    if found is None:
        raise _unknown(call.path["token"])
    return found


def _unknown(id: str) -> ControlError:
    return ControlError(404, Code.TOKEN_NOT_FOUND, f"There is no token {id[:80]!a}.")


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _both(path: str) -> tuple[str, str]:
    """Cloudflare has tokens of users and of accounts; here they are the same."""
    return f"/user/tokens{path}", f"/accounts/{{account}}/tokens{path}"


_CREATE = JsonBody(NewToken)
_UPDATE = JsonBody(UpdatedToken)

ROUTES = (
    *(
        Route("GET", p, verify, "Verify the token of this request", "any", "own", VerifyResult)
        for p in _both("/verify")
    ),
    *(
        Route("GET", p, list_groups, "List permission groups", "any", "own", list[GroupResult])
        for p in _both("/permission_groups")
    ),
    *(Route("GET", p, list_tokens, "List tokens", "admin", "platform", list[TokenResult]) for p in _both("")),
    *(
        Route("POST", p, create_token, "Create a token", "admin", "platform", TokenResult, body=_CREATE)
        for p in _both("")
    ),
    *(Route("GET", p, get_token, "Show a token", "admin", "platform", TokenResult) for p in _both("/{token}")),
    *(
        Route("PUT", p, update_token, "Replace what a token says", "admin", "platform", TokenResult, body=_UPDATE)
        for p in _both("/{token}")
    ),
    *(Route("DELETE", p, delete_token, "Revoke a token", "admin", "platform", dict) for p in _both("/{token}")),
    *(
        Route(
            "PUT",
            p,
            roll_token,
            "Give a token a new value",
            "admin",
            "platform",
            str,
            body=JsonBody(dict[str, Any], optional=True),
        )
        for p in _both("/{token}/value")
    ),
)
