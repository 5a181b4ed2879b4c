"""The one account and its one user: what clients ask for before they do anything."""

from __future__ import annotations

from typing import Any

import msgspec

from runtime.control.routes import ACCOUNT, Call, NoQuery, Result, Route
from runtime.control.versions import PageInfo

_CREATED_ON = "2026-01-01T00:00:00.000Z"


class UserResult(msgspec.Struct, frozen=True):
    id: str
    email: str
    first_name: str
    username: str


class AccountResult(msgspec.Struct, frozen=True):
    id: str
    name: str
    type: str = "standard"
    created_on: str = _CREATED_ON
    settings: dict[str, Any] = msgspec.field(default_factory=lambda: {"enforce_twofactor": False})


class MembershipResult(msgspec.Struct, frozen=True):
    id: str
    status: str
    account: AccountResult
    roles: list[str]


_ACCOUNT = AccountResult(ACCOUNT, "Cloister")
_ONE_PAGE = PageInfo(1, 20, 1, 1)


async def get_user(call: Call[NoQuery, None]) -> Result:
    name = call.access.name
    return Result(UserResult(call.access.token.id if call.access.token else "admin", f"{name}@cloister", name, name))


async def list_accounts(call: Call[NoQuery, None]) -> Result:
    return Result([_ACCOUNT], _ONE_PAGE)


async def get_account(call: Call[NoQuery, None]) -> Result:
    return Result(_ACCOUNT)


async def list_memberships(call: Call[NoQuery, None]) -> Result:
    return Result([MembershipResult(ACCOUNT, "accepted", _ACCOUNT, sorted(call.access.permissions))], _ONE_PAGE)


async def get_subdomain(call: Call[NoQuery, None]) -> Result:
    return Result({"subdomain": ACCOUNT})


async def get_service(call: Call[NoQuery, None]) -> Result:
    """What wrangler looks at before it does something to a Worker."""
    script = call.script()
    return Result(
        {
            "id": call.path["script"],
            "default_environment": {
                "environment": "production",
                "script": {"id": call.path["script"], "tag": call.path["script"], "tags": list(script.tags)},
            },
            "environments": [{"environment": "production"}],
        }
    )


async def nothing(call: Call[NoQuery, None]) -> Result:
    """Features that scripts here do not have; tools ask for them before they delete one."""
    call.script()
    return Result({} if call.request.path.endswith("/references") else [])


ROUTES = (
    Route("GET", "/user", get_user, "Show who calls", "any", "own", UserResult),
    Route(
        "GET",
        "/accounts",
        list_accounts,
        "List accounts: there is one",
        "any",
        "own",
        list[AccountResult],
        info=PageInfo,
    ),
    Route("GET", "/accounts/{account}", get_account, "Show the account", "any", "own", AccountResult),
    Route(
        "GET",
        "/memberships",
        list_memberships,
        "List memberships: there is one",
        "any",
        "own",
        list[MembershipResult],
        info=PageInfo,
    ),
    Route("GET", "/accounts/{account}/workers/subdomain", get_subdomain, "Show the subdomain", "any", "own", dict),
    Route("GET", "/accounts/{account}/workers/services/{script}", get_service, "Show a script", "read", "script", dict),
    Route(
        "GET",
        "/accounts/{account}/workers/scripts/{script}/references",
        nothing,
        "List what refers to a script: nothing can",
        "read",
        "script",
        dict,
    ),
    Route(
        "GET",
        "/accounts/{account}/workers/tails/by-consumer/{script}",
        nothing,
        "List whose tail consumer a script is: nobody's",
        "read",
        "script",
        list[Any],
    ),
)
