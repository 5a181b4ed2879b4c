"""The management API's routes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import datetime
from urllib.parse import quote

from aiohttp import web

from host_bindings.scope import STORAGE_TYPES, Binding, Resources, Tenant
from runtime.artifacts import ArtifactError, ArtifactStore, RejectedUpload
from runtime.control.collection import ArtifactCollection
from runtime.control.envelope import Code, ControlError, invalid, success
from runtime.control.guard import answer_errors, check_origin, check_token
from runtime.control.metadata import UploadMetadata, kept_bindings, parse_metadata
from runtime.control.upload import Upload, UploadedFile, receive_upload, remove_stale_uploads
from runtime.engine.limits import LimitPolicy
from runtime.registry import (
    InvalidName,
    Namespace,
    NamespaceExists,
    NamespaceNotEmpty,
    Registry,
    Script,
    UnknownNamespace,
    check_name,
)
from runtime.settings import NAME_PATTERN, ServerSettings

ACCOUNT = "local"
NAMESPACES = "/client/v4/accounts/{account}/workers/dispatch/namespaces"
UPLOADS_AT_ONCE = 4
PAGE_MAX = 1000

_JSON_BYTES_MAX = 64 * 1024

_logger = logging.getLogger(__name__)


def create_control_application(
    registry: Registry,
    artifacts: ArtifactStore,
    resources: Resources,
    token: str,
    settings: ServerSettings,
    policy: LimitPolicy | None = None,
) -> web.Application:
    """The application, to be served on the admin port. The registry must be open by the time it is."""
    api = ControlApi(registry, artifacts, resources, settings, policy or LimitPolicy())
    guards = [answer_errors, check_origin(settings.admin_host_names), check_token(token)]
    application = web.Application(middlewares=guards)
    namespace, scripts = f"{NAMESPACES}/{{namespace}}", f"{NAMESPACES}/{{namespace}}/scripts"
    application.add_routes(
        [
            web.get(NAMESPACES, api.list_namespaces),
            web.post(NAMESPACES, api.create_namespace),
            web.get(namespace, api.get_namespace),
            web.delete(namespace, api.delete_namespace),
            web.get(scripts, api.list_scripts),
            web.get(f"{scripts}/{{script}}", api.get_script),
            web.put(f"{scripts}/{{script}}", api.put_script),
            web.delete(f"{scripts}/{{script}}", api.delete_script),
        ]
    )
    application.cleanup_ctx.append(api.run)
    return application


class ControlApi:
    def __init__(
        self,
        registry: Registry,
        artifacts: ArtifactStore,
        resources: Resources,
        settings: ServerSettings,
        policy: LimitPolicy,
    ) -> None:
        self._registry = registry
        self._artifacts = artifacts
        self._resources = resources
        self._settings = settings
        self._policy = policy
        self._collection = ArtifactCollection(artifacts, registry)
        self._uploads = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def run(self, application: web.Application) -> AsyncIterator[None]:
        await asyncio.to_thread(remove_stale_uploads, self._settings.uploads_directory)
        yield

    # Namespaces

    async def list_namespaces(self, request: web.Request) -> web.Response:
        _check_account(request)
        return success([_describe_namespace(namespace) for namespace in await self._registry.list_namespaces()])

    async def create_namespace(self, request: web.Request) -> web.Response:
        _check_account(request)
        body = await _read_json(request)
        name = body.get("name") if isinstance(body, dict) else None
        if not isinstance(name, str):
            raise invalid('name: is missing; send {"name": "..."}.')
        try:
            created = await self._registry.create_namespace(name)
        except InvalidName as error:
            raise invalid(f"name: {error}") from None
        except NamespaceExists as error:
            raise ControlError(409, Code.NAMESPACE_CONFLICT, str(error)) from None
        _logger.info("created a dispatch namespace", extra={"fields": {"namespace": name}})
        return success(_describe_namespace(created))

    async def get_namespace(self, request: web.Request) -> web.Response:
        return success(_describe_namespace(await self._namespace(request)))

    async def delete_namespace(self, request: web.Request) -> web.Response:
        namespace = await self._namespace(request)
        try:
            await self._registry.delete_namespace(namespace.name)
        except NamespaceNotEmpty as error:
            raise ControlError(409, Code.NAMESPACE_CONFLICT, str(error)) from None
        _logger.info("deleted a dispatch namespace", extra={"fields": {"namespace": namespace.name}})
        return success(None)

    # Scripts

    async def list_scripts(self, request: web.Request) -> web.Response:
        """By name; `limit` (at most 1,000) and `cursor`, which is what the page before gave, or nothing."""
        namespace = await self._namespace(request)
        limit, cursor = _page_limit(request), request.query.get("cursor", "")
        names = [version.script for version in self._registry.list_scripts(namespace.name) if version.script > cursor]
        found = [self._registry.script(namespace.name, name) for name in names[:limit]]
        result = [_describe_script(script) for script in found if script is not None]
        following = names[limit - 1] if len(names) > limit else ""
        return success(result, {"count": len(result), "per_page": limit, "cursor": following})

    async def get_script(self, request: web.Request) -> web.Response:
        namespace = await self._namespace(request)
        script = self._registry.script(namespace.name, request.match_info["script"])
        if script is None:
            raise _no_script(namespace.name, request.match_info["script"])
        return success(
            {
                "dispatch_namespace": namespace.name,
                "script": _describe_script(script),
                "created_on": _timestamp(script.created_on),
                "modified_on": _timestamp(script.modified_on),
            }
        )

    async def put_script(self, request: web.Request) -> web.Response:
        """Uploads a component and deploys it. Nothing changes unless the whole of it is right."""
        namespace, name = await self._namespace(request), request.match_info["script"]
        try:
            check_name("script", name)
        except InvalidName as error:
            raise invalid(str(error)) from None
        uploads = receive_upload(request, self._settings.uploads_directory, self._settings.upload_bytes_max)
        async with self._uploads, uploads as upload, self._collection.deploying():
            metadata, component = _read_upload(upload, self._policy)
            script = await self._deploy(namespace.name, name, metadata, component)
        if script.current.number > 1:
            await self._collection.collect()
        return success({**_describe_script(script), "startup_time_ms": 0, "entry_point": metadata.main_module})

    async def _deploy(self, namespace: str, name: str, metadata: UploadMetadata, component: UploadedFile) -> Script:
        try:
            artifact = await self._artifacts.add(component.path)
        except RejectedUpload as error:
            raise ControlError(error.status, error.code, error.message) from None
        except ArtifactError as error:
            _logger.error("An upload could not be stored: %s", error.message)
            raise ControlError(500, Code.INTERNAL, error.message) from None
        before = self._registry.find(namespace, name)
        bindings = kept_bindings(metadata, before.bindings if before else ())
        try:
            version = await self._registry.deploy(
                namespace, name, artifact.digest, bindings, metadata.limits, metadata.tags
            )
        except UnknownNamespace as error:
            raise ControlError(404, Code.NAMESPACE_NOT_FOUND, str(error)) from None
        fields = {"namespace": namespace, "tenant": name, "version": version.number, "artifact": artifact.digest}
        _logger.info("deployed a script", extra={"fields": fields})
        script = self._registry.script(namespace, name)
        assert script is not None
        return script

    async def delete_script(self, request: web.Request) -> web.Response:
        """Removes a script. What it stored stays, unless `purge_data=true` is asked for."""
        namespace, name = await self._namespace(request), request.match_info["script"]
        purging = request.query.get("purge_data") == "true"
        if not NAME_PATTERN.fullmatch(name):
            raise _no_script(namespace.name, name)
        deleted = await self._registry.delete(namespace.name, name)
        if not deleted and not purging:
            raise _no_script(namespace.name, name)
        if purging:
            tenant = Tenant(namespace.key, name)
            await self._resources.purge(tenant)
            await self._registry.resources.forget_tenant(tenant)
        if deleted:
            await self._collection.collect()
        fields = {"namespace": namespace.name, "tenant": name, "data_purged": purging}
        _logger.info("deleted a script", extra={"fields": fields})
        return success({"id": name, "deleted": deleted, "data_purged": purging})

    async def _namespace(self, request: web.Request) -> Namespace:
        _check_account(request)
        name = request.match_info["namespace"]
        for namespace in await self._registry.list_namespaces():
            if namespace.name == name:
                return namespace
        raise ControlError(404, Code.NAMESPACE_NOT_FOUND, str(UnknownNamespace(name)))


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


def _describe_namespace(namespace: Namespace) -> dict[str, object]:
    created_on = _timestamp(namespace.created_on)
    return {
        "namespace_id": namespace.id,
        "namespace_name": namespace.name,
        "script_count": namespace.script_count,
        "trusted_workers": False,
        "created_on": created_on,
        "modified_on": created_on,
    }


def _describe_script(script: Script) -> dict[str, object]:
    version = script.current
    return {
        "id": version.script,
        "etag": version.artifact,
        "tags": list(script.tags),
        "handlers": ["fetch"],
        "has_modules": True,
        "has_assets": False,
        "created_on": _timestamp(script.created_on),
        "modified_on": _timestamp(script.modified_on),
        "version_id": version.id,
        "version_number": version.number,
        "bindings": [_describe_binding(binding) for binding in version.bindings],
        "limits": {name: getattr(version.limits, name) for name in version.limits.__struct_fields__},
    }


_RESOURCE_FIELD = {"kv_namespace": "namespace_id", "r2_bucket": "bucket_name", "d1": "id"}


def _describe_binding(binding: Binding) -> dict[str, object]:
    """As it was uploaded, but for the value of a secret."""
    described: dict[str, object] = {"type": binding.type, "name": binding.name}
    if binding.type in STORAGE_TYPES:
        described[_RESOURCE_FIELD[binding.type]] = binding.resource_id
        if binding.js_types:
            described["js_types"] = True
    elif binding.type == "json":
        described["json"] = binding.value
    elif binding.type == "plain_text":
        described["text"] = binding.value
    return described


def _timestamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _no_script(namespace: str, name: str) -> ControlError:
    return ControlError(404, Code.SCRIPT_NOT_FOUND, f"There is no script {name[:80]!a} in the namespace {namespace!a}.")


def _check_account(request: web.Request) -> None:
    account = request.match_info["account"]
    if account != ACCOUNT:
        path = quote(request.path[:200])
        raise ControlError(404, Code.NO_ROUTE, f"Could not route to {path}: the only account is {ACCOUNT!r}.")


def _page_limit(request: web.Request) -> int:
    text = request.query.get("limit", str(PAGE_MAX))
    if not text.isascii() or not text.isdigit() or len(text) > 4 or not 1 <= int(text) <= PAGE_MAX:
        raise invalid(f"limit: must be a number from 1 to {PAGE_MAX}.")
    return int(text)


async def _read_json(request: web.Request) -> object:
    body = bytearray()
    try:
        async with asyncio.timeout(30):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > _JSON_BYTES_MAX:
                    raise ControlError(413, Code.TOO_LARGE, f"The body is larger than {_JSON_BYTES_MAX} bytes.")
    except TimeoutError:
        raise ControlError(408, Code.INVALID, "The request's body did not arrive in time.") from None
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid("The body is not JSON.") from None
    return parsed
