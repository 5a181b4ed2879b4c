"""Dispatch namespaces: create, list, show, rename, delete."""

from __future__ import annotations

import logging

import msgspec

from runtime.control.routes import Call, JsonBody, NoQuery, Result, Route
from runtime.control.shapes import NamespaceResult, namespace_result
from runtime.registry import UnknownNamespace

_logger = logging.getLogger(__name__)

_COLLECTION = "/accounts/{account}/workers/dispatch/namespaces"
_NAMESPACE = f"{_COLLECTION}/{{namespace}}"


class NewNamespace(msgspec.Struct, frozen=True):
    name: str
    trusted_workers: bool = False


class NamespaceChange(msgspec.Struct, frozen=True):
    name: str | None = None
    trusted_workers: bool | None = None


async def list_namespaces(call: Call[NoQuery, None]) -> Result:
    return Result([namespace_result(each) for each in await call.parts.registry.list_namespaces()])


async def create_namespace(call: Call[NoQuery, NewNamespace]) -> Result:
    created = await call.parts.registry.create_namespace(call.body.name, trusted=call.body.trusted_workers)
    _logger.info("created a dispatch namespace", extra={"fields": {"namespace": created.name}})
    return Result(namespace_result(created))


async def get_namespace(call: Call[NoQuery, None]) -> Result:
    assert call.namespace is not None
    return Result(namespace_result(call.namespace))


async def change_namespace(call: Call[NoQuery, NamespaceChange]) -> Result:
    assert call.namespace is not None
    before = call.namespace
    new_name = before.name if call.body.name is None else call.body.name
    trusted = before.trusted if call.body.trusted_workers is None else call.body.trusted_workers
    await call.parts.registry.update_namespace(before.name, new_name=new_name, trusted=trusted)
    _logger.info("changed a dispatch namespace", extra={"fields": {"namespace": before.name, "new_name": new_name}})
    for namespace in await call.parts.registry.list_namespaces():
        if namespace.id == before.id:
            return Result(namespace_result(namespace))
    raise UnknownNamespace(new_name)


async def delete_namespace(call: Call[NoQuery, None]) -> Result:
    assert call.namespace is not None
    await call.parts.registry.delete_namespace(call.namespace.name)
    _logger.info("deleted a dispatch namespace", extra={"fields": {"namespace": call.namespace.name}})
    return Result(None)


_CHANGE = JsonBody(NamespaceChange)

ROUTES = (
    Route("GET", _COLLECTION, list_namespaces, "List dispatch namespaces", "read", "platform", list[NamespaceResult]),
    Route(
        "POST",
        _COLLECTION,
        create_namespace,
        "Create a dispatch namespace",
        "deploy",
        "platform",
        NamespaceResult,
        body=JsonBody(NewNamespace),
        statuses=(409,),
    ),
    Route("GET", _NAMESPACE, get_namespace, "Show a dispatch namespace", "read", "platform", NamespaceResult),
    *(
        Route(
            method,
            _NAMESPACE,
            change_namespace,
            "Rename a dispatch namespace; its scripts and what they store come along",
            "deploy",
            "platform",
            NamespaceResult,
            body=_CHANGE,
            statuses=(409,),
        )
        for method in ("PUT", "PATCH")
    ),
    Route(
        "DELETE",
        _NAMESPACE,
        delete_namespace,
        "Delete an empty dispatch namespace",
        "deploy",
        "platform",
        statuses=(409,),
    ),
)
