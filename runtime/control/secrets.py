"""A script's secrets. Values come in and are never shown again; each change deploys a new version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec

from host_bindings.scope import Binding
from runtime.control.envelope import Code, ControlError, invalid
from runtime.control.metadata import BINDING_NAME, BINDINGS_MAX, TEXT_BYTES_MAX
from runtime.control.routes import Call, JsonBody, NoQuery, Result, script_routes
from runtime.control.settings import change_content
from runtime.registry import Content

_Name = Annotated[str, msgspec.Meta(pattern=f"^{BINDING_NAME.pattern}$")]
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class NewSecret(msgspec.Struct, frozen=True):
    name: _Name
    text: str
    type: Literal["secret_text"] = "secret_text"


class SecretText(msgspec.Struct, frozen=True):
    text: str
    type: Literal["secret_text"] = "secret_text"
    name: str = ""


class SecretsChange(msgspec.Struct, frozen=True):
    """None takes a secret away; what is not named stays."""

    secrets: dict[_Name, SecretText | None] = {}


class SecretResult(msgspec.Struct, frozen=True):
    name: str
    type: str


async def list_secrets(call: Call[NoQuery, None]) -> Result:
    return Result([SecretResult(name, "secret_text") for name in _names(call)])


async def get_secret(call: Call[NoQuery, None]) -> Result:
    name = call.path["secret"]
    if name not in _names(call):
        raise _unknown(name)
    return Result(SecretResult(name, "secret_text"))


async def put_secret(call: Call[NoQuery, NewSecret]) -> Result:
    await _change(call, {call.body.name: call.body.text})
    return Result(SecretResult(call.body.name, "secret_text"))


async def change_secrets(call: Call[NoQuery, SecretsChange]) -> Result:
    """Several at once, in one version. (JSON Merge Patch, RFC 7396.)"""
    await _change(call, {name: value.text if value else None for name, value in call.body.secrets.items()})
    return Result([SecretResult(name, "secret_text") for name in _names(call)])


async def delete_secret(call: Call[NoQuery, None]) -> Result:
    name = call.path["secret"]
    if name not in _names(call):
        raise _unknown(name)
    await _change(call, {name: None})
    return Result(None)


async def _change(call: Call[Any, Any], values: Mapping[str, str | None]) -> None:
    for name, text in values.items():
        if text is not None and _SURROGATE.search(text):
            raise invalid(f"{name}: has half a character in it (a lone surrogate).")
        if text is not None and len(text.encode()) > TEXT_BYTES_MAX:
            raise invalid(f"{name}: the text has more than {TEXT_BYTES_MAX} bytes.")

    def change(before: Content) -> Content:
        bindings = [binding for binding in before.bindings if binding.name not in values]
        for binding in before.bindings:
            if binding.name in values and binding.type != "secret_text":
                raise invalid(f"{binding.name}: is a {binding.type} binding of this script already.")
        bindings += [Binding("secret_text", name, value=text) for name, text in values.items() if text is not None]
        if len(bindings) > BINDINGS_MAX:
            raise invalid(f"There would be {len(bindings)} bindings; at most {BINDINGS_MAX} are allowed.")
        return replace(before, bindings=tuple(bindings))

    call.script()
    if values:
        await change_content(call, "secret", change)


def _names(call: Call[Any, Any]) -> list[str]:
    return [binding.name for binding in call.script().current.bindings if binding.type == "secret_text"]


def _unknown(name: str) -> ControlError:
    return ControlError(404, Code.SECRET_NOT_FOUND, f"This script has no secret {name[:80]!a}.")


ROUTES = (
    *script_routes("GET", "/secrets", list_secrets, "List a script's secrets", "read", result=list[SecretResult]),
    *script_routes(
        "PUT",
        "/secrets",
        put_secret,
        "Set a secret",
        "deploy",
        result=SecretResult,
        body=JsonBody(NewSecret),
        statuses=(408, 409, 413),
    ),
    *script_routes(
        "PATCH",
        "/secrets-bulk",
        change_secrets,
        "Set and delete several secrets at once",
        "deploy",
        result=list[SecretResult],
        body=JsonBody(SecretsChange, bytes_max=16 * 1024 * 1024),
        statuses=(408, 409, 413),
    ),
    *script_routes("GET", "/secrets/{secret}", get_secret, "Show that a secret is there", "read", result=SecretResult),
    *script_routes("DELETE", "/secrets/{secret}", delete_secret, "Delete a secret", "deploy", statuses=(409,)),
)
