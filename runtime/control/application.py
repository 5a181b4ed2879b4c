"""The management API: all its routes, and what stands before and around them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from functools import partial

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from host_bindings.scope import Resources
from runtime.artifacts import ArtifactStore
from runtime.control import (
    account,
    bound,
    content,
    d1_databases,
    d1_queries,
    d1_transfer,
    kv_namespaces,
    kv_values,
    metrics,
    namespaces,
    r2_buckets,
    r2_objects,
    scripts,
    secrets,
    settings,
    tails,
    tokens,
    usage,
    versions,
)
from runtime.control.access import Authentication
from runtime.control.collection import ArtifactCollection
from runtime.control.envelope import ANSWER_HEADERS
from runtime.control.guard import answer_errors, check_origin, check_token
from runtime.control.openapi import describe
from runtime.control.parts import Parts
from runtime.control.routes import BASE, serve
from runtime.control.storage_survey import StorageSurvey
from runtime.control.transfers import Transfers
from runtime.control.upload import claim_uploads
from runtime.engine.limits import LimitPolicy
from runtime.registry import Registry, RegistryError
from runtime.settings import ServerSettings
from runtime.stopped import StoppedScripts
from runtime.telemetry.observatory import Observatory

ROUTES = (
    *account.ROUTES,
    *tokens.ROUTES,
    *namespaces.ROUTES,
    *scripts.ROUTES,
    *content.ROUTES,
    *settings.ROUTES,
    *secrets.ROUTES,
    *bound.ROUTES,
    *versions.ROUTES,
    *kv_namespaces.ROUTES,
    *kv_values.ROUTES,
    *r2_buckets.ROUTES,
    *r2_objects.ROUTES,
    *d1_databases.ROUTES,
    *d1_queries.ROUTES,
    *d1_transfer.ROUTES,
    *tails.ROUTES,
    *usage.ROUTES,
)

PARTS = web.AppKey("parts", Parts)
AUTHENTICATION = web.AppKey("authentication", Authentication)
"""Under these keys the application has what a view of it for people is made from."""

OPENAPI_PATH = f"{BASE}/openapi.json"

HOUSEKEEPING_S = 3600.0
"""How often versions that are not to be kept, and transfers that are over, are deleted."""


def create_control_application(
    registry: Registry,
    artifacts: ArtifactStore,
    resources: Resources,
    token: str,
    settings: ServerSettings,
    policy: LimitPolicy | None = None,
    stopped: StoppedScripts | None = None,
    *,
    observatory: Observatory,
) -> web.Application:
    """The application, to be served on the admin port. The registry must be open by the time it is."""
    parts = Parts(
        registry,
        artifacts,
        resources,
        settings,
        policy or LimitPolicy(),
        ArtifactCollection(artifacts, registry),
        Transfers(settings.uploads_directory),
        stopped or StoppedScripts(),
        observatory,
        StorageSurvey(registry, resources, observatory.recorder),
    )
    authentication = Authentication(token, registry)
    guards = [answer_errors, check_origin(settings.admin_host_names), check_token(authentication)]
    application = web.Application(middlewares=guards)
    application[PARTS], application[AUTHENTICATION] = parts, authentication
    for route in ROUTES:
        application.router.add_route(route.method, route.pattern, serve(route, parts))
        if route.method == "GET":
            application.router.add_route("HEAD", route.pattern, serve(route, parts))
    document = msgspec.json.encode(describe(ROUTES))
    application.router.add_get(OPENAPI_PATH, _openapi(document))
    d1_transfer.add_transfer_routes(application, parts.transfers)
    application.router.add_get(metrics.PATH, partial(metrics.answer, parts))
    application.router.add_get(tails.PATH, partial(tails.stream, parts))
    application.cleanup_ctx.append(_housekeeping(parts))
    return application


def _openapi(document: bytes) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(body=document, content_type="application/json", headers=ANSWER_HEADERS)

    return handle


def _housekeeping(parts: Parts) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(application: web.Application) -> AsyncIterator[None]:
        claim = await asyncio.to_thread(claim_uploads, parts.settings.uploads_directory)
        tasks = [asyncio.create_task(_keep_house(parts)), asyncio.create_task(parts.survey.run())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await parts.transfers.close()
        os.close(claim)

    return run


async def _keep_house(parts: Parts) -> None:
    while True:
        await asyncio.sleep(HOUSEKEEPING_S)
        with contextlib.suppress(RegistryError):
            if await parts.registry.prune():
                await parts.collection.collect()
        await parts.transfers.expire()
