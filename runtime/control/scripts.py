"""Scripts of a dispatch namespace: upload, show, list, delete, one by one or by tag; their tags."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from host_bindings.scope import Tenant
from runtime.control.envelope import Code, ControlError, invalid
from runtime.control.metadata import read_tags
from runtime.control.parts import Parts
from runtime.control.publishing import UPLOAD_BODY, UploadQuery, publish
from runtime.control.routes import Call, JsonBody, NoQuery, Result, Route, script_routes
from runtime.control.shapes import NamespacedScript, ScriptResult, UploadResult, script_result, timestamp, upload_result
from runtime.registry import InvalidName, Namespace, Script, UnknownScript, check_name
from runtime.settings import NAME_PATTERN

PAGE_MAX = 1000

_logger = logging.getLogger(__name__)

_NAMESPACE_SCRIPTS = "/accounts/{account}/workers/dispatch/namespaces/{namespace}/scripts"
_SERVED_SCRIPTS = "/accounts/{account}/workers/scripts"


class ListQuery(msgspec.Struct, frozen=True):
    """`tags`: `name:yes` or `name:no` with commas between: the scripts that have all of the first and none of the
    second. `cursor` is what the page before gave."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)] = PAGE_MAX
    cursor: str = ""
    tags: str = ""


class CursorInfo(msgspec.Struct, frozen=True):
    count: int
    per_page: int
    cursor: str


class DeleteByTag(msgspec.Struct, frozen=True):
    tags: str = ""
    purge_data: bool = False


class DeleteQuery(msgspec.Struct, frozen=True):
    """`force` is Cloudflare's and has no effect."""

    purge_data: bool = False
    force: bool = False


class DeletedScript(msgspec.Struct, frozen=True):
    id: str
    deleted: bool
    data_purged: bool


class DeletedScripts(msgspec.Struct, frozen=True):
    deleted: list[str]
    count: int
    data_purged: bool


# One script


async def put_script(call: Call[UploadQuery, None]) -> Result:
    """Uploads a component and deploys it. Nothing changes unless the whole of it is right."""
    try:
        check_name("script", call.path["script"])
    except InvalidName as error:
        raise invalid(str(error)) from None
    version, messages = await publish(call, deploy=True)
    return Result(upload_result(call.script(), version, call.parts.stopped), messages=messages)


async def get_script(call: Call[NoQuery, None]) -> Result:
    script = call.script()
    shown = script_result(script, call.parts.stopped)
    return Result(
        NamespacedScript(shown.dispatch_namespace, shown, timestamp(script.created_on), timestamp(script.modified_on))
    )


async def delete_script(call: Call[DeleteQuery, None]) -> Result:
    """Removes a script. What it stored stays, unless `purge_data` is asked for."""
    assert call.namespace is not None
    name = call.path["script"]
    if not NAME_PATTERN.fullmatch(name):
        raise UnknownScript(call.namespace.name, name)
    if call.query.purge_data:
        _check_may_purge(call)
    deleted = await remove(call.parts, call.namespace, name, purge_data=call.query.purge_data)
    if not deleted and not call.query.purge_data:
        raise UnknownScript(call.namespace.name, name)
    return Result(DeletedScript(name, deleted, call.query.purge_data))


async def start_script(call: Call[NoQuery, None]) -> Result:
    """Lets the deployed versions run again that were stopped since they crashed the server."""
    for share in call.script().deployment.shares:
        if call.parts.stopped.start(share.version.id):
            fields = {"namespace": share.version.namespace, "tenant": share.version.script, "version": share.version.id}
            _logger.info("started a script that was stopped", extra={"fields": fields})
    return Result(script_result(call.script(), call.parts.stopped))


async def remove(parts: Parts, namespace: Namespace, name: str, *, purge_data: bool) -> bool:
    """Whether there was such a script. `purge_data`: what the tenant stored goes too, for good."""
    deleted = await parts.registry.delete(namespace.name, name)
    if purge_data:
        tenant = Tenant(namespace.key, name)
        await parts.resources.purge(tenant)
        await parts.registry.resources.forget_tenant(tenant)
    if deleted:
        await parts.collection.collect()
    fields = {"namespace": namespace.name, "tenant": name, "deleted": deleted, "data_purged": purge_data}
    _logger.info("deleted a script", extra={"fields": fields})
    return deleted


def _check_may_purge(call: Call[Any, Any]) -> None:
    if "data" not in call.access.permissions:
        raise ControlError(403, Code.FORBIDDEN, "purge_data: this token does not have the permission 'data'.")


# Many scripts


async def list_scripts(call: Call[ListQuery, None]) -> Result:
    """By name."""
    found = _with_tags(call, call.query.tags)
    names = [name for name in found if name > call.query.cursor]
    page = names[: call.query.limit]
    following = page[-1] if len(names) > len(page) else ""
    result = [script_result(found[name], call.parts.stopped) for name in page]
    return Result(result, CursorInfo(len(result), call.query.limit, following))


async def delete_scripts(call: Call[DeleteByTag, None]) -> Result:
    assert call.namespace is not None
    if not call.query.tags:
        raise invalid("tags: is missing; it says which scripts are to be deleted, as in ?tags=name:yes.")
    if call.query.purge_data:
        _check_may_purge(call)
    names = list(_with_tags(call, call.query.tags))
    for name in names:
        await remove(call.parts, call.namespace, name, purge_data=call.query.purge_data)
    return Result(DeletedScripts(names, len(names), call.query.purge_data))


def _with_tags(call: Call[Any, Any], text: str) -> Mapping[str, Script]:
    """The namespace's scripts by name, in order."""
    assert call.namespace is not None
    wanted, unwanted = _read_filter(text)
    found = {}
    for version in call.parts.registry.list_scripts(call.namespace.name):
        script = call.parts.registry.script(call.namespace.name, version.script)
        if script is not None and wanted <= set(script.tags) and not unwanted & set(script.tags):
            found[version.script] = script
    return found


def _read_filter(text: str) -> tuple[set[str], set[str]]:
    """Tags that must be there and tags that must not."""
    tags: dict[str, set[str]] = {"yes": set(), "no": set()}
    for part in filter(None, text.split(",")):
        tag, _, answer = part.rpartition(":")
        if not tag or answer not in tags:
            raise invalid(f"tags: {part[:80]!a} is not valid; a filter is name:yes or name:no, with commas between.")
        tags[answer].add(tag)
    return tags["yes"], tags["no"]


# Tags


async def get_tags(call: Call[NoQuery, None]) -> Result:
    return Result(list(call.script().tags))


async def set_tags(call: Call[NoQuery, list[str]]) -> Result:
    return await _change_tags(call, read_tags(list(call.body)))


async def add_tag(call: Call[NoQuery, None]) -> Result:
    return await _change_tags(call, read_tags([*call.script().tags, call.path["tag"]]))


async def remove_tag(call: Call[NoQuery, None]) -> Result:
    return await _change_tags(call, tuple(tag for tag in call.script().tags if tag != call.path["tag"]))


async def _change_tags(call: Call[Any, Any], tags: tuple[str, ...]) -> Result:
    await call.parts.registry.set_tags(*call.script_name, tags)
    return Result(list(tags))


ROUTES = (
    *(
        Route(
            "GET",
            path,
            list_scripts,
            "List scripts by name, or those with tags",
            "read",
            "platform",
            list[ScriptResult],
            query=ListQuery,
            info=CursorInfo,
        )
        for path in (_NAMESPACE_SCRIPTS, _SERVED_SCRIPTS)
    ),
    Route(
        "DELETE",
        _NAMESPACE_SCRIPTS,
        delete_scripts,
        "Delete the scripts with tags",
        "deploy",
        "platform",
        DeletedScripts,
        query=DeleteByTag,
    ),
    *script_routes(
        "PUT",
        "",
        put_script,
        "Upload a script and deploy it",
        "deploy",
        result=UploadResult,
        query=UploadQuery,
        body=UPLOAD_BODY,
        statuses=(408, 409, 413, 415, 429, 507),
    ),
    *script_routes("GET", "", get_script, "Show a script", "read", result=NamespacedScript),
    *script_routes("DELETE", "", delete_script, "Delete a script", "deploy", result=DeletedScript, query=DeleteQuery),
    *script_routes(
        "POST", "/start", start_script, "Let a script run again that was stopped", "deploy", result=ScriptResult
    ),
    Route(
        "DELETE",
        "/accounts/{account}/workers/services/{script}",
        delete_script,
        "Delete a script, as wrangler does it",
        "deploy",
        "script",
        DeletedScript,
        query=DeleteQuery,
    ),
    *script_routes("GET", "/tags", get_tags, "List a script's tags", "read", result=list[str]),
    *script_routes(
        "PUT", "/tags", set_tags, "Replace a script's tags", "deploy", result=list[str], body=JsonBody(list[str])
    ),
    *script_routes("PUT", "/tags/{tag}", add_tag, "Give a script a tag", "deploy", result=list[str]),
    *script_routes("DELETE", "/tags/{tag}", remove_tag, "Take a tag away from a script", "deploy", result=list[str]),
)
