"""All pages of the dashboard, put below the management API's application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web

from runtime.control.application import AUTHENTICATION, PARTS
from runtime.dashboard import login, storage, tenants
from runtime.dashboard.figures import Observer
from runtime.dashboard.guard import Page, guard, logged_in, see_other
from runtime.dashboard.pages import PREFIX, Pages
from runtime.dashboard.sessions import Sessions
from runtime.dashboard.tail import Streams
from runtime.dashboard.visit import Dashboard

_TENANT = "/tenants/{namespace}/{script}"


def add_dashboard(application: web.Application) -> None:
    """Serves the pages below /dashboard/ of the management API's application. Reads the templates from the disk."""
    parts, authentication = application[PARTS], application[AUTHENTICATION]
    dashboard = Dashboard(parts, authentication, Sessions(parts.registry), Pages(), Observer(parts))
    streams = Streams()
    pages = web.Application(middlewares=[guard(dashboard)])
    pages.on_shutdown.append(streams.stop)
    shown: dict[str, Page] = {
        "/": tenants.overview,
        _TENANT: tenants.show_tenant,
        f"{_TENANT}/tail": streams.tail,
        f"{_TENANT}/kv/{{binding}}": storage.list_keys,
        f"{_TENANT}/kv/{{binding}}/value": storage.show_key,
        f"{_TENANT}/r2/{{binding}}": storage.list_objects,
        f"{_TENANT}/r2/{{binding}}/object": storage.show_object,
        f"{_TENANT}/r2/{{binding}}/download": storage.download_object,
        f"{_TENANT}/d1/{{binding}}": storage.show_database,
    }
    changing: dict[str, Page] = {
        "/logout": login.log_out,
        f"{_TENANT}/deploy": tenants.deploy_version,
        f"{_TENANT}/d1/{{binding}}": storage.run_statement,
    }
    for path, page in shown.items():
        pages.router.add_get(path, logged_in(dashboard, page), allow_head=False)
    for path, page in changing.items():
        pages.router.add_post(path, logged_in(dashboard, page))
    pages.router.add_get("/login", partial(login.show_login, dashboard), allow_head=False)
    pages.router.add_post("/login", partial(login.log_in, dashboard))
    pages.router.add_get("/static/{name}", _static(dashboard.pages), allow_head=False)
    pages.router.add_get("", _to_overview, allow_head=False)
    application.add_subapp(PREFIX, pages)


def _static(pages: Pages) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        found = pages.static.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        media, content = found
        return web.Response(body=content, content_type=media, charset="utf-8")

    return handle


async def _to_overview(request: web.Request) -> web.Response:
    return see_other(PREFIX)
