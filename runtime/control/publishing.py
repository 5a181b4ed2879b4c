"""From an upload to a version: what `PUT script` and `POST versions` have in common."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Literal

import msgspec

from host_bindings.scope import BindingType
from runtime.artifacts import ArtifactError, RejectedUpload
from runtime.control.envelope import Code, ControlError, invalid
from runtime.control.metadata import (
    METADATA_BYTES_MAX,
    UploadMetadata,
    parse_json,
    parse_metadata,
    read_metadata,
    with_flags,
)
from runtime.control.parts import Parts
from runtime.control.routes import Call, RawBody, read_body
from runtime.control.upload import Upload, UploadedFile, receive_upload
from runtime.engine.limits import LimitPolicy
from runtime.registry import Content, Origin, Script, UnknownScript, Version

_logger = logging.getLogger(__name__)

UPLOAD_BODY = RawBody(
    {
        "multipart/form-data": {
            "type": "object",
            "required": ["metadata"],
            "properties": {
                "metadata": {"type": "string", "description": "JSON: main_module, bindings, limits, tags, …"},
                "worker.wasm": {
                    "type": "string",
                    "format": "binary",
                    "description": "The component; its file name, or else its field name, is main_module.",
                },
            },
        },
        "application/json": {
            "type": "object",
            "required": ["metadata"],
            "properties": {"metadata": {"type": "object"}},
            "description": "A new configuration for the component that is deployed.",
        },
    }
)


class UploadQuery(msgspec.Struct, frozen=True):
    """`strict`: an inherited binding that is not there is an error. `excludeScript` is wrangler's, without effect."""

    bindings_inherit: Literal["strict"] | None = None


async def publish(call: Call[UploadQuery, Any], *, deploy: bool) -> tuple[Version, list[str]]:
    """Takes the upload in; the new version, and what its author should know."""
    if call.request.content_type == "application/json":
        return await _publish_configuration(call, deploy=deploy)
    parts = call.parts
    upload = receive_upload(call.request, parts.settings.uploads_directory, parts.settings.upload_bytes_max)
    async with parts.uploads, upload as received, parts.collection.deploying():
        metadata, component = _read_upload(received, parts.policy)
        digest = await store(parts, component)
        version, messages = await _make_version(call, metadata, digest, deploy=deploy)
    if version.number > 1:
        await parts.collection.collect()
    return version, messages


async def _publish_configuration(call: Call[UploadQuery, Any], *, deploy: bool) -> tuple[Version, list[str]]:
    """The same component with other metadata: what the official client sends when it is given no files."""
    document = parse_json(await read_body(call.request, METADATA_BYTES_MAX), "The body")
    if not isinstance(document, dict) or "metadata" not in document:
        raise invalid("metadata: is missing.")
    metadata = read_metadata(document["metadata"], call.parts.policy, with_module=False)
    call.script()
    return await _make_version(call, metadata, None, deploy=deploy)


async def store(parts: Parts, component: UploadedFile) -> str:
    try:
        return (await parts.artifacts.add(component.path)).digest
    except RejectedUpload as error:
        raise ControlError(error.status, error.code, error.message) from None
    except ArtifactError as error:
        _logger.error("An upload could not be stored: %s", error.message)
        raise ControlError(500, Code.INTERNAL, error.message) from None


async def _make_version(
    call: Call[UploadQuery, Any], metadata: UploadMetadata, digest: str | None, *, deploy: bool
) -> tuple[Version, list[str]]:
    namespace, name = call.script_name
    granting, messages = await _platform_resources(call, metadata)

    def make(before: Script | None) -> Content:
        previous = before.current.content if before else None
        bindings = metadata.wanted.resolve(
            previous.bindings if previous else (), strict=call.query.bindings_inherit == "strict"
        )
        bindings = with_flags(bindings, metadata.module.compatibility_flags)
        if digest is None and previous is None:
            raise UnknownScript(namespace, name)
        if digest is not None:
            return Content(digest, bindings, metadata.limits, metadata.module)
        assert previous is not None
        module = replace(metadata.module, name=previous.module.name)
        return Content(previous.artifact, bindings, metadata.limits, module)

    origin = Origin("upload", call.access.name, metadata.message, metadata.tag)
    version = await call.parts.registry.upload(
        namespace, name, make, origin, tags=metadata.tags, deploy=deploy, granting=granting
    )
    fields = {
        "namespace": namespace,
        "tenant": name,
        "version": version.number,
        "artifact": version.artifact,
        "deployed": deploy,
        "by": call.access.name,
    }
    _logger.info("deployed a script" if deploy else "uploaded a version", extra={"fields": fields})
    return version, messages


async def _platform_resources(
    call: Call[Any, Any], metadata: UploadMetadata
) -> tuple[Collection[tuple[BindingType, str]], list[str]]:
    """Which of the platform's resources the upload gives the tenant access to.

    The operator's own deployment of an id that nobody can guess is leave to use it. A bucket is called by a name that
    a tenant can choose, so that it takes an explicit grant. A tenant's token gives no leave to anything.
    """
    if call.access.tenant is not None:
        return (), []
    granting: list[tuple[BindingType, str]] = []
    messages = []
    for binding in metadata.bindings:
        if binding.resource_id is None:
            continue
        found = await call.parts.registry.resources.find_owned(binding.type, None, binding.resource_id)
        if found is None:
            continue
        if binding.type != "r2_bucket":
            granting.append((binding.type, binding.resource_id))
        elif not await call.parts.registry.resources.is_granted("r2_bucket", found.id, call.tenant):
            messages.append(
                f"The binding {binding.name} is the tenant's own bucket {found.name!r}; the account has one of the "
                f"same name. To bind that one: PUT …/r2/buckets/{found.name}/grants/"
                f"{call.tenant.namespace}/{call.tenant.script}"
            )
    return granting, messages


def _read_upload(upload: Upload, policy: LimitPolicy) -> tuple[UploadMetadata, UploadedFile]:
    if upload.metadata is None:
        raise invalid("metadata: the part is missing.")
    metadata = parse_metadata(upload.metadata, policy)
    component = upload.find(metadata.main_module)
    if component is None:
        names = ", ".join(ascii(file.filename or file.field_name)[:80] for file in upload.files[:8]) or "none"
        raise invalid(f"metadata.main_module: no part is named {metadata.main_module[:80]!a}; the parts are: {names}.")
    if len(upload.files) > 1:
        other = next(file for file in upload.files if file is not component)
        name = ascii(other.filename or other.field_name)[:80]
        raise invalid(f"The part {name} is not used: a worker is one component with everything in it.")
    return metadata, component
