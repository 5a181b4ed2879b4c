"""What stands before every page: the session, the CSRF token, and the headers that bind the browser.

The Host and Origin headers have been seen by the management API's own guard when a request comes here.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from host_bindings.contract import Failure
from host_bindings.d1.errors import D1Error
from host_bindings.r2.errors import R2Error
from runtime.control.access import denied
from runtime.control.envelope import Code, ControlError, invalid
from runtime.control.refusals import refusal
from runtime.control.routes import read_body
from runtime.dashboard.pages import PREFIX
from runtime.dashboard.visit import Dashboard, Visit
from runtime.registry import RegistryError
from runtime.settings import DASHBOARD_COOKIE

FORM_BYTES_MAX = 256 * 1024
FIELDS_MAX = 16

# `same-origin` and not `no-referrer`, with which browsers send `Origin: null` with a form.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "Server": "cloister",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_logger = logging.getLogger(__name__)


def guard(dashboard: Dashboard) -> Middleware:
    """Answers errors as pages, takes nothing from other sites' pages, and sets `HEADERS`."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check_site(request)
            response = await handler(request)
        except Exception as error:
            response = _answer(dashboard, request, error)
        if not response.prepared:
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
        return response

    return middleware


def check_site(request: web.Request) -> None:
    """Raises `ControlError` (403) for what another origin's page makes a browser send, links to a page excepted.

    The tenants' port of the same host is the same site to a browser, and a worker's page is not to be trusted.
    """
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    is_link = request.method in ("GET", "HEAD") and request.headers.get("Sec-Fetch-Mode") == "navigate"
    if site not in ("same-origin", "none") and not is_link:
        raise denied("The dashboard takes no requests from other pages.")
    origin = request.headers.get("Origin")
    if request.method == "POST" and origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
        raise denied("The dashboard takes no requests from other pages.")


async def read_form(request: web.Request) -> dict[str, str]:
    """The fields of a form. Raises `ControlError`."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise invalid("Send a form.")
    body = await read_body(request, FORM_BYTES_MAX)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except ValueError:
        raise invalid("The form cannot be read.") from None


def check_csrf(form: Mapping[str, str], expected: str) -> None:
    """Raises `ControlError` (403)."""
    if not expected or not hmac.compare_digest(form.get("csrf", "").encode(), expected.encode()):
        raise denied("The form has expired or is not the dashboard's own; load the page again.")


def see_other(location: str) -> web.Response:
    """Leads the browser to another page."""
    return web.Response(status=303, headers={"Location": location})


Page = Callable[[Visit], Awaitable[web.StreamResponse]]


def logged_in(dashboard: Dashboard, page: Page) -> Handler:
    """The page for those who have a session; others are sent to log in."""

    async def handle(request: web.Request) -> web.StreamResponse:
        id = request.cookies.get(DASHBOARD_COOKIE, "")
        session = dashboard.sessions.find(id)
        if session is None:
            if request.method == "POST" or request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
                raise ControlError(401, Code.AUTHENTICATION, "You are not logged in any more; load the page again.")
            return see_other(f"{PREFIX}login")
        form: Mapping[str, str] = {}
        if request.method == "POST":
            form = await read_form(request)
            check_csrf(form, session.csrf)
        return await page(Visit(dashboard, request, id, session, form))

    return handle


def _answer(dashboard: Dashboard, request: web.Request, error: Exception) -> web.Response:
    """What went wrong as a page; what is not meant for the visitor goes to the log only."""
    status, message = 500, "An internal error; the server's log has the details."
    refused = refusal(error) if isinstance(error, RegistryError) else error
    if isinstance(refused, ControlError):
        status, message = refused.status, refused.message
    elif isinstance(error, R2Error | D1Error | Failure):
        status, message = 400, error.message
    elif isinstance(error, web.HTTPException):
        status, message = error.status, "There is no such page." if error.status == 404 else error.reason
    else:
        _logger.error("A page of the dashboard failed: %s %s", request.method, request.path, exc_info=error)
    title = HTTPStatus(status).phrase
    text = dashboard.pages.render("error.html", access=None, status=status, title=title, message=message)
    return web.Response(text=text, status=status, content_type="text/html")
