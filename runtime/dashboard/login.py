"""In by a token of the management API, and out again."""

from __future__ import annotations

import logging
import secrets
from urllib.parse import urlsplit

from aiohttp import web

from runtime.dashboard.guard import check_csrf, read_form, see_other
from runtime.dashboard.pages import PREFIX
from runtime.dashboard.sessions import SESSION_S
from runtime.dashboard.visit import Dashboard, Visit
from runtime.settings import DASHBOARD_COOKIE

LOGIN_COOKIE = f"{DASHBOARD_COOKIE}_login"
"""Holds what the login form must send, as there is no session yet: a page from elsewhere can log nobody in."""

_LOGIN_S = 3600

_logger = logging.getLogger(__name__)


async def show_login(dashboard: Dashboard, request: web.Request) -> web.Response:
    return _form(dashboard, request, 200, "")


async def log_in(dashboard: Dashboard, request: web.Request) -> web.Response:
    form = await read_form(request)
    check_csrf(form, request.cookies.get(LOGIN_COOKIE, ""))
    access = dashboard.authentication.access(f"Bearer {form.get('token', '')}")
    if access is None:
        _logger.warning("A login to the dashboard was refused")
        return _form(dashboard, request, 403, "This is not a token that is in force.")
    if "read" not in access.permissions:
        return _form(dashboard, request, 403, "This token does not have the permission 'read'.")
    _logger.info("logged in to the dashboard", extra={"fields": {"by": access.name}})
    response = see_other(PREFIX)
    _set_cookie(request, response, DASHBOARD_COOKIE, dashboard.sessions.open(access), int(SESSION_S))
    response.del_cookie(LOGIN_COOKIE, path=PREFIX)
    return response


async def log_out(visit: Visit) -> web.Response:
    visit.dashboard.sessions.close(visit.session_id)
    response = see_other(f"{PREFIX}login")
    response.del_cookie(DASHBOARD_COOKIE, path=PREFIX)
    return response


def _form(dashboard: Dashboard, request: web.Request, status: int, message: str) -> web.Response:
    csrf = secrets.token_urlsafe(32)
    text = dashboard.pages.render("login.html", access=None, csrf=csrf, message=message)
    response = web.Response(text=text, status=status, content_type="text/html")
    _set_cookie(request, response, LOGIN_COOKIE, csrf, _LOGIN_S)
    return response


def _set_cookie(request: web.Request, response: web.Response, name: str, value: str, seconds: int) -> None:
    # A proxy in front ends TLS; the browser says in which scheme it called.
    secure = request.secure or urlsplit(request.headers.get("Origin", "")).scheme == "https"
    response.set_cookie(name, value, max_age=seconds, path=PREFIX, httponly=True, samesite="Strict", secure=secure)
