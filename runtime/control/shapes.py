"""What the API shows of namespaces, scripts, versions and deployments. Secrets have no value in any of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from host_bindings.scope import STORAGE_TYPES, Binding
from runtime.control.metadata import RESOURCE_FIELDS
from runtime.registry import Deployment, Namespace, Origin, Script, Version
from runtime.stopped import StoppedScripts


class NamespaceResult(msgspec.Struct, frozen=True):
    namespace_id: str
    namespace_name: str
    script_count: int
    trusted_workers: bool
    created_on: str
    modified_on: str


class StopResult(msgspec.Struct, frozen=True):
    """Why a version is not run any more."""

    version_id: str
    stopped_on: str
    reason: str


class ScriptResult(msgspec.Struct, frozen=True):
    """`etag` is the component's SHA-256. `stopped` are the deployed versions that crashed the server too often."""

    id: str
    etag: str
    tags: list[str]
    handlers: list[str]
    has_modules: bool
    has_assets: bool
    created_on: str
    modified_on: str
    version_id: str
    version_number: int
    compatibility_date: str | None
    compatibility_flags: list[str]
    bindings: list[dict[str, Any]]
    limits: dict[str, Any]
    dispatch_namespace: str
    stopped: list[StopResult]


class UploadResult(ScriptResult, frozen=True, kw_only=True):
    startup_time_ms: int
    entry_point: str


class NamespacedScript(msgspec.Struct, frozen=True):
    dispatch_namespace: str
    script: ScriptResult
    created_on: str
    modified_on: str


class SettingsResult(msgspec.Struct, frozen=True):
    bindings: list[dict[str, Any]]
    compatibility_date: str | None
    compatibility_flags: list[str]
    limits: dict[str, Any]
    tags: list[str]
    logpush: bool = False
    usage_model: str = "standard"
    tail_consumers: list[dict[str, Any]] = []
    placement: dict[str, Any] = {}
    observability: dict[str, Any] | None = None


class VersionMetadata(msgspec.Struct, frozen=True):
    created_on: str
    modified_on: str
    source: str
    author_id: str
    author_email: str
    hasPreview: bool = False


class VersionResult(msgspec.Struct, frozen=True):
    id: str
    number: int
    metadata: VersionMetadata
    annotations: dict[str, str]
    resources: dict[str, Any]
    startup_time_ms: int = 0


class VersionsResult(msgspec.Struct, frozen=True):
    items: list[VersionResult]


class DeployedVersion(msgspec.Struct, frozen=True):
    version_id: str
    percentage: float


class DeploymentResult(msgspec.Struct, frozen=True):
    id: str
    source: str
    strategy: str
    author_email: str
    annotations: dict[str, str]
    versions: list[DeployedVersion]
    created_on: str


class DeploymentsResult(msgspec.Struct, frozen=True):
    deployments: list[DeploymentResult]


def namespace_result(namespace: Namespace) -> NamespaceResult:
    return NamespaceResult(
        namespace_id=namespace.id,
        namespace_name=namespace.name,
        script_count=namespace.script_count,
        trusted_workers=namespace.trusted,
        created_on=timestamp(namespace.created_on),
        modified_on=timestamp(namespace.modified_on or namespace.created_on),
    )


def script_result(script: Script, stopped: StoppedScripts) -> ScriptResult:
    return ScriptResult(**_script_fields(script, stopped))


def upload_result(script: Script, version: Version, stopped: StoppedScripts) -> UploadResult:
    return UploadResult(**_script_fields(script, stopped), startup_time_ms=0, entry_point=version.content.module.name)


def _script_fields(script: Script, stopped: StoppedScripts) -> dict[str, Any]:
    version = script.current
    stops = [stop for share in script.deployment.shares if (stop := stopped.find(share.version.id)) is not None]
    return {
        "stopped": [
            StopResult(stop.version, timestamp(datetime.fromtimestamp(stop.stopped_ms / 1000, UTC)), stop.reason)
            for stop in stops
        ],
        "id": version.script,
        "etag": version.artifact,
        "tags": list(script.tags),
        "handlers": ["fetch"],
        "has_modules": True,
        "has_assets": False,
        "created_on": timestamp(script.created_on),
        "modified_on": timestamp(script.modified_on),
        "version_id": version.id,
        "version_number": version.number,
        "compatibility_date": version.content.module.compatibility_date,
        "compatibility_flags": list(version.content.module.compatibility_flags),
        "bindings": bindings_result(version),
        "limits": limits_result(version),
        "dispatch_namespace": version.namespace,
    }


def settings_result(script: Script) -> SettingsResult:
    version = script.current
    return SettingsResult(
        bindings=bindings_result(version),
        compatibility_date=version.content.module.compatibility_date,
        compatibility_flags=list(version.content.module.compatibility_flags),
        limits=limits_result(version),
        tags=list(script.tags),
    )


def version_result(version: Version) -> VersionResult:
    created_on = timestamp(version.created_on)
    author = version.origin.author
    module = version.content.module
    runtime: dict[str, Any] = {"usage_model": "standard", "limits": limits_result(version)}
    if module.compatibility_date is not None:
        runtime["compatibility_date"] = module.compatibility_date
    if module.compatibility_flags:
        runtime["compatibility_flags"] = list(module.compatibility_flags)
    return VersionResult(
        id=version.id,
        number=version.number,
        metadata=VersionMetadata(created_on, created_on, version.origin.source, author, author),
        annotations=_annotations(version.origin),
        resources={
            "bindings": bindings_result(version),
            "script": {"etag": version.artifact, "handlers": ["fetch"], "last_deployed_from": version.origin.source},
            "script_runtime": runtime,
        },
    )


def deployment_result(deployment: Deployment) -> DeploymentResult:
    return DeploymentResult(
        id=deployment.id,
        source=deployment.origin.source,
        strategy="percentage",
        author_email=deployment.origin.author,
        annotations=_annotations(deployment.origin),
        versions=[DeployedVersion(share.version.id, share.percentage) for share in deployment.shares],
        created_on=timestamp(deployment.created_on),
    )


def bindings_result(version: Version) -> list[dict[str, Any]]:
    return [describe_binding(binding) for binding in version.bindings]


def describe_binding(binding: Binding) -> dict[str, Any]:
    """As it was uploaded, but for the value of a secret."""
    described: dict[str, Any] = {"type": binding.type, "name": binding.name}
    if binding.type in STORAGE_TYPES:
        described[RESOURCE_FIELDS[binding.type][0]] = binding.resource_id
        if binding.js_types:
            described["js_types"] = True
    elif binding.type == "json":
        described["json"] = binding.value
    elif binding.type == "plain_text":
        described["text"] = binding.value
    return described


def limits_result(version: Version) -> dict[str, Any]:
    return msgspec.structs.asdict(version.limits)


def timestamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _annotations(origin: Origin) -> dict[str, str]:
    annotations = {"workers/triggered_by": origin.source}
    if origin.message:
        annotations["workers/message"] = origin.message
    if origin.tag:
        annotations["workers/tag"] = origin.tag
    return annotations
