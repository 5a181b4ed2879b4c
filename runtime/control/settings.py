"""A script's settings: its bindings, limits and compatibility without its code. A change makes a new version."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from runtime.control.envelope import Code, ControlError, invalid
from runtime.control.forms import is_form, read_form
from runtime.control.metadata import (
    METADATA_BYTES_MAX,
    parse_json,
    read_bindings,
    read_limits,
    read_module,
    read_tags,
    with_flags,
)
from runtime.control.routes import Call, NoQuery, RawBody, Result, read_body, script_routes
from runtime.control.shapes import SettingsResult, bindings_result, settings_result
from runtime.registry import Content, Origin, Script, UnknownScript, Version

_logger = logging.getLogger(__name__)

_BODY = RawBody(
    {
        "multipart/form-data": {
            "type": "object",
            "properties": {"settings": {"type": "string", "description": "JSON, as in application/json"}},
        },
        "application/json": {
            "type": "object",
            "properties": {
                "bindings": {
                    "type": "array",
                    "items": {"type": "object"},
                    "description": "All bindings from now on; one without a value stays as it is.",
                },
                "limits": {"type": "object"},
                "compatibility_date": {"type": "string"},
                "compatibility_flags": {"type": "array", "items": {"type": "string"}},
                "tags": {"type": "array", "items": {"type": "string"}, "description": "These make no version."},
            },
        },
    }
)


async def get_settings(call: Call[NoQuery, None]) -> Result:
    return Result(settings_result(call.script()))


async def get_bindings(call: Call[NoQuery, None]) -> Result:
    return Result(bindings_result(call.script().current))


async def change_settings(call: Call[NoQuery, None]) -> Result:
    """Fields that are not given stay as they are."""
    settings = await _read(call)
    call.script()
    tags = None if settings.get("tags") is None else read_tags(_list(settings, "tags"))
    if settings.keys() & {"bindings", "limits", "compatibility_date", "compatibility_flags", "keep_bindings"}:
        await change_content(call, "settings", lambda before: _changed(before, settings, call))
    if tags is not None:
        await call.parts.registry.set_tags(*call.script_name, tags)
    return Result(settings_result(call.script()))


async def change_content(
    call: Call[Any, Any], source: str, change: Callable[[Content], Content], *, message: str = ""
) -> Version:
    """Deploys a version that differs from the one at work as `change` says; no other change comes between.

    Raises `ControlError` while a deployment is split: it would not be clear from which version.
    """
    namespace, name = call.script_name

    def make(script: Script | None) -> Content:
        if script is None:
            raise UnknownScript(namespace, name)
        if script.is_split:
            raise ControlError(
                409,
                Code.NOT_ALL_DEPLOYED,
                "The script's requests are split among versions: deploy one of them to all of its requests first.",
            )
        return change(script.current.content)

    version = await call.parts.registry.upload(namespace, name, make, Origin(source, call.access.name, message))
    fields = {"namespace": namespace, "tenant": name, "version": version.number, "by": call.access.name}
    _logger.info("changed a script's %s", source, extra={"fields": fields})
    if version.number > 1:
        await call.parts.collection.collect()
    return version


def _changed(before: Content, settings: dict[str, Any], call: Call[Any, Any]) -> Content:
    bindings, limits, module = before.bindings, before.limits, before.module
    if "bindings" in settings or "keep_bindings" in settings:
        wanted = read_bindings(settings, {binding.name: binding for binding in before.bindings})
        bindings = wanted.resolve(before.bindings, strict=True)
    if settings.get("limits") is not None:
        limits = read_limits(settings["limits"], call.parts.policy)
    if settings.keys() & {"compatibility_date", "compatibility_flags"}:
        known = {"compatibility_date": module.compatibility_date, "compatibility_flags": module.compatibility_flags}
        given = {**known, "compatibility_flags": list(module.compatibility_flags), **settings}
        module = read_module(given, module.name)
    bindings = with_flags(bindings, module.compatibility_flags)
    return replace(before, bindings=bindings, limits=limits, module=module)


async def _read(call: Call[Any, Any]) -> dict[str, Any]:
    """JSON, a form with JSON in its part `settings`, or a form with a field for each setting, as clients differ."""
    body = await read_body(call.request, METADATA_BYTES_MAX)
    content_type = call.request.headers.get("Content-Type", "")
    if is_form(content_type):
        fields: dict[str, list[bytes]] = {}
        for field in read_form(body, content_type):
            fields.setdefault(field.name, []).append(field.content)
        settings = parse_json(fields["settings"][-1], "settings") if "settings" in fields else _unflatten(fields)
    else:
        settings = parse_json(body, "The body")
        if isinstance(settings, dict) and isinstance(settings.get("settings"), dict):
            settings = settings["settings"]
    if not isinstance(settings, dict):
        raise invalid("settings: must be a JSON object.")
    return settings


def _unflatten(fields: dict[str, list[bytes]]) -> dict[str, Any]:
    """`settings.limits.cpu_ms` and `settings.tags[]` as the older official client sends them."""
    settings: dict[str, Any] = {}
    for name, values in fields.items():
        path = name.removeprefix("settings.").split(".")
        target = settings
        for step in path[:-1]:
            target = target.setdefault(step, {})
            if not isinstance(target, dict):
                raise invalid(f"{name[:80]!a}: is a value and an object at once.")
        last, texts = path[-1], [value.decode(errors="replace") for value in values]
        target[last.removesuffix("[]")] = texts if last.endswith("[]") else _number(texts[-1])
    return settings


def _number(text: str) -> object:
    """Numbers and switches lose their type in a form."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float | bool) else text


def _list(settings: dict[str, Any], field: str) -> list[Any]:
    value = settings[field]
    if not isinstance(value, list):
        raise invalid(f"{field}: must be a list.")
    return value


ROUTES = (
    *script_routes("GET", "/settings", get_settings, "Show a script's settings", "read", result=SettingsResult),
    *script_routes("GET", "/script-settings", get_settings, "Show a script's settings", "read", result=SettingsResult),
    *script_routes(
        "PATCH",
        "/settings",
        change_settings,
        "Change a script's settings, which deploys a new version",
        "deploy",
        result=SettingsResult,
        body=_BODY,
        statuses=(408, 409, 413),
    ),
    *script_routes(
        "PATCH",
        "/script-settings",
        change_settings,
        "Change a script's settings",
        "deploy",
        result=SettingsResult,
        body=_BODY,
        statuses=(408, 409, 413),
    ),
    *script_routes("GET", "/bindings", get_bindings, "List a script's bindings", "read", result=list[dict[str, Any]]),
)
