"""What stands before every handler: who may call, from where, and that every answer is an envelope."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from runtime.control.access import Access, Authentication
from runtime.control.envelope import Code, ControlError, failure
from runtime.control.refusals import refusal
from runtime.registry import RegistryError

ACCESS = web.RequestKey("access", Access)
"""Under this key a request has its `Access`."""

CAPABILITIES = "/client/v4/transfers/"
"""Addresses that hold a secret of their own; clients call them without a token, as they do signed addresses."""

PAGES = "/dashboard"
"""Addresses that are called by browsers, which have a session in place of a token; `runtime.dashboard` sees to it."""

_logger = logging.getLogger(__name__)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns what handlers raise into envelopes; what is not meant for the caller goes to the log only."""
    try:
        return await handler(request)
    except ControlError as error:
        return failure(error)
    except RegistryError as error:
        if (refused := refusal(error)) is not None:
            return failure(refused)
        _logger.exception("A management request failed: %s %s", request.method, request.path)
        return failure(ControlError(500, Code.INTERNAL, "An internal error; the server's log has the details."))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.method[:32]} is not possible here; use {allowed}."
        return failure(ControlError(405, Code.METHOD_NOT_ALLOWED, message, {"Allow": allowed}))
    except web.HTTPNotFound:
        return failure(ControlError(404, Code.NO_ROUTE, f"There is nothing at {request.path[:200]!a}."))
    except web.HTTPException as error:
        return failure(ControlError(error.status, Code.INVALID, error.reason))
    except (web.RequestPayloadError, ConnectionResetError):
        return failure(
            ControlError(400, Code.INVALID, "The request's body broke off or is not framed as it should be.")
        )
    except Exception:
        _logger.exception("A management request failed: %s %s", request.method, request.path)
        return failure(ControlError(500, Code.INTERNAL, "An internal error; the server's log has the details."))


def check_origin(host_names: Collection[str]) -> Middleware:
    """Lets in only requests that mean this machine by a loopback name, or by one of `host_names`.

    A page from elsewhere that a browser on this machine shows can make its own name resolve to 127.0.0.1 (DNS
    rebinding); its requests then still carry that name in Host, and its origin in Origin.
    """
    names = frozenset(host_names)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1 or not _is_allowed(_host_name(f"//{hosts[0]}"), names):
            raise ControlError(
                403, Code.FORBIDDEN, "The management API is called by a loopback address, not this host."
            )
        for origin in request.headers.getall("Origin", []):
            if not _is_allowed(_host_name(origin), names):
                raise ControlError(403, Code.FORBIDDEN, "The management API takes no requests from this origin.")
        return await handler(request)

    return middleware


def check_token(authentication: Authentication) -> Middleware:
    """Lets in only requests with a bearer token that is in force, and notes what it gives access to.

    Addresses below `CAPABILITIES` need none: who knows one may use it. Those below `PAGES` see to it themselves.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        access = authentication.access(request.headers.get("Authorization", ""))
        if access is not None:
            request[ACCESS] = access
        elif not (request.path.startswith((CAPABILITIES, f"{PAGES}/")) or request.path == PAGES):
            message = "Authentication error: send a token as `Authorization: Bearer TOKEN`."
            raise ControlError(401, Code.AUTHENTICATION, message, {"WWW-Authenticate": "Bearer"})
        return await handler(request)

    return middleware


def _host_name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _is_allowed(host: str | None, names: Collection[str]) -> bool:
    if not host:
        return False
    host = host.rstrip(".")
    if host == "localhost" or host in names:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
