"""What stands before every handler: who may call, from where, and that every answer is an envelope."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from runtime.control.envelope import Code, ControlError, failure

_logger = logging.getLogger(__name__)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns what handlers raise into envelopes; what is not meant for the caller goes to the log only."""
    try:
        return await handler(request)
    except ControlError as error:
        return failure(error)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.method[:32]} is not possible here; use {allowed}."
        return failure(ControlError(405, Code.METHOD_NOT_ALLOWED, message, {"Allow": allowed}))
    except web.HTTPNotFound:
        return failure(ControlError(404, Code.NO_ROUTE, f"There is nothing at {request.path[:200]!a}."))
    except web.HTTPException as error:
        return failure(ControlError(error.status, Code.INVALID, error.reason))
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


def check_token(token: str) -> Middleware:
    """Lets in only requests with the bearer token, compared in constant time."""
    expected = hashlib.sha256(token.encode()).digest()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        # Hashed, so that neither the length nor a common beginning shows in the time.
        digest = hashlib.sha256(given.strip().encode("utf-8", "surrogateescape")).digest()
        if not hmac.compare_digest(digest, expected) or scheme.lower() != "bearer":
            message = "Authentication error: send the admin token as `Authorization: Bearer TOKEN`."
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
