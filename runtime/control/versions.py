"""A script's versions and deployments: list, show, upload without deploying, deploy, roll back, split."""

from __future__ import annotations

import logging
from typing import Annotated, Literal

import msgspec

from runtime.control.envelope import invalid
from runtime.control.publishing import UPLOAD_BODY, UploadQuery, publish
from runtime.control.routes import Call, JsonBody, NoQuery, Result, script_routes
from runtime.control.shapes import (
    DeploymentResult,
    DeploymentsResult,
    VersionResult,
    VersionsResult,
    deployment_result,
    version_result,
)
from runtime.registry import Origin

SHARES_MAX = 10
"""Versions in one deployment."""

_logger = logging.getLogger(__name__)


class VersionsQuery(msgspec.Struct, frozen=True):
    """All versions that are kept can be deployed: `deployable` changes nothing."""

    page: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    per_page: Annotated[int, msgspec.Meta(ge=1, le=100)] = 100
    deployable: bool = False


class PageInfo(msgspec.Struct, frozen=True):
    page: int
    per_page: int
    count: int
    total_count: int


class WantedShare(msgspec.Struct, frozen=True):
    version_id: str
    percentage: Annotated[float, msgspec.Meta(gt=0, le=100)]


class NewDeployment(msgspec.Struct, frozen=True):
    versions: Annotated[list[WantedShare], msgspec.Meta(min_length=1, max_length=SHARES_MAX)]
    strategy: Literal["percentage"] = "percentage"
    annotations: dict[str, str | None] | None = None


class Rollback(msgspec.Struct, frozen=True):
    """Without `version_id`: to the version that was at work before the present deployment."""

    version_id: str | None = None
    message: Annotated[str, msgspec.Meta(max_length=1000)] = ""


async def list_versions(call: Call[VersionsQuery, None]) -> Result:
    found = await call.parts.registry.versions(*call.script_name)
    first = (call.query.page - 1) * call.query.per_page
    page = found[first : first + call.query.per_page]
    info = PageInfo(call.query.page, call.query.per_page, len(page), len(found))
    return Result(VersionsResult([version_result(version) for version in page]), info)


async def get_version(call: Call[NoQuery, None]) -> Result:
    return Result(version_result(await call.parts.registry.version(*call.script_name, call.path["version"])))


async def create_version(call: Call[UploadQuery, None]) -> Result:
    """Uploads a version that answers no requests before it is deployed."""
    call.script()
    version, messages = await publish(call, deploy=False)
    return Result(version_result(version), messages=messages)


async def list_deployments(call: Call[NoQuery, None]) -> Result:
    """The newest, which is at work, first."""
    found = await call.parts.registry.deployments(*call.script_name)
    return Result(DeploymentsResult([deployment_result(deployment) for deployment in found]))


async def get_deployment(call: Call[NoQuery, None]) -> Result:
    for deployment in await call.parts.registry.deployments(*call.script_name):
        if deployment.id == call.path["deployment"]:
            return Result(deployment_result(deployment))
    raise invalid("deployment: there is none with this id, or it is not kept any more.")


async def create_deployment(call: Call[NoQuery, NewDeployment]) -> Result:
    """Deploys versions that are there: one to all requests, or several by percentage."""
    call.script()
    shares = [(share.version_id, share.percentage) for share in call.body.versions]
    total = sum(percentage for _, percentage in shares)
    if abs(total - 100) > 1e-6:
        raise invalid(f"versions: the percentages add up to {total:g}; they must add up to 100.")
    if len({version for version, _ in shares}) < len(shares):
        raise invalid("versions: a version is there twice.")
    message = (call.body.annotations or {}).get("workers/message") or ""
    return await _deploy(call, shares, "deployment", message[:1000])


async def roll_back(call: Call[NoQuery, Rollback]) -> Result:
    """Deploys an earlier version to all requests, in one call."""
    target = call.body.version_id or await _before(call)
    return await _deploy(call, [(target, 100.0)], "rollback", call.body.message)


async def _before(call: Call[NoQuery, Rollback]) -> str:
    present, *earlier = await call.parts.registry.deployments(*call.script_name)
    for deployment in earlier:
        if deployment.shares[0].version.id != present.shares[0].version.id:
            return deployment.shares[0].version.id
    raise invalid("There is no earlier version to roll back to.")


async def _deploy(
    call: Call[NoQuery, NewDeployment] | Call[NoQuery, Rollback],
    shares: list[tuple[str, float]],
    source: str,
    message: str,
) -> Result:
    origin = Origin(source, call.access.name, message)
    deployment = await call.parts.registry.deploy_versions(*call.script_name, shares, origin)
    namespace, name = call.script_name
    numbers = {share.version.number: share.percentage for share in deployment.shares}
    fields = {"namespace": namespace, "tenant": name, "versions": numbers, "by": call.access.name}
    _logger.info("deployed versions", extra={"fields": fields})
    await call.parts.collection.collect()
    return Result(deployment_result(deployment))


ROUTES = (
    *script_routes(
        "GET",
        "/versions",
        list_versions,
        "List a script's versions, the newest first",
        "read",
        result=VersionsResult,
        query=VersionsQuery,
        info=PageInfo,
    ),
    *script_routes(
        "POST",
        "/versions",
        create_version,
        "Upload a version without deploying it",
        "deploy",
        result=VersionResult,
        query=UploadQuery,
        body=UPLOAD_BODY,
        statuses=(408, 409, 413, 415, 429, 507),
    ),
    *script_routes("GET", "/versions/{version}", get_version, "Show a version", "read", result=VersionResult),
    *script_routes(
        "GET", "/deployments", list_deployments, "List a script's deployments", "read", result=DeploymentsResult
    ),
    *script_routes(
        "POST",
        "/deployments",
        create_deployment,
        "Deploy versions, each to a percentage of the requests",
        "deploy",
        result=DeploymentResult,
        body=JsonBody(NewDeployment),
        statuses=(408, 413),
    ),
    *script_routes(
        "GET", "/deployments/{deployment}", get_deployment, "Show a deployment", "read", result=DeploymentResult
    ),
    *script_routes(
        "POST",
        "/rollback",
        roll_back,
        "Deploy an earlier version to all requests",
        "deploy",
        result=DeploymentResult,
        body=JsonBody(Rollback, optional=True),
        statuses=(408, 413),
    ),
)
