"""One request of somebody who is logged in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from host_bindings.scope import Scope, Tenant
from runtime.control.access import Access, Authentication, Need
from runtime.control.parts import Parts
from runtime.dashboard.figures import Observer
from runtime.dashboard.pages import PREFIX, Pages
from runtime.dashboard.sessions import Session, Sessions
from runtime.registry import Namespace, Script, UnknownNamespace, UnknownScript


@dataclass(frozen=True)
class Dashboard:
    """What the pages are made from."""

    parts: Parts
    authentication: Authentication
    sessions: Sessions
    pages: Pages
    observer: Observer


@dataclass(frozen=True)
class Visit:
    """`form` is what a POST sent; its CSRF token has been seen."""

    dashboard: Dashboard
    request: web.Request
    session_id: str
    session: Session
    form: Mapping[str, str]

    @property
    def access(self) -> Access:
        return self.session.access

    @property
    def parts(self) -> Parts:
        return self.dashboard.parts

    def render(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """A page."""
        text = self.dashboard.pages.render(template, access=self.access, csrf=self.session.csrf, **values)
        return web.Response(text=text, status=status, content_type="text/html")

    async def tenant(self, need: Need) -> TenantVisit:
        """The tenant that the path names. Raises `ControlError` (403) where the token may not do what is needed, be
        there such a tenant or not; `UnknownNamespace`, `UnknownScript`."""
        name, script_name = self.request.match_info["namespace"], self.request.match_info["script"]
        namespaces = await self.parts.registry.list_namespaces()
        namespace = next((each for each in namespaces if each.name == name), None)
        self.access.check(need, "script", Tenant(namespace.key, script_name) if namespace else None)
        if namespace is None:
            raise UnknownNamespace(name)
        script = self.parts.registry.script(name, script_name)
        if script is None:
            raise UnknownScript(name, script_name)
        return TenantVisit(self, namespace, script)


@dataclass(frozen=True)
class TenantVisit:
    """A visit of a tenant's pages, which the visitor may see."""

    visit: Visit
    namespace: Namespace
    script: Script

    @property
    def path(self) -> str:
        return f"{PREFIX}tenants/{self.namespace.name}/{self.script.current.script}"

    @property
    def scope(self) -> Scope:
        """What the version at work may reach: the pages show storage by the tenant's own bindings and no other way."""
        version = self.script.current
        return self.visit.parts.resources.scope(version.tenant, version.bindings)

    @property
    def binding(self) -> str:
        return self.visit.request.match_info["binding"]

    def render(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        return self.visit.render(template, status=status, tenant=self, version=self.script.current, **values)
