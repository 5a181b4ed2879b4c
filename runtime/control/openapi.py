"""The API's description in OpenAPI 3.1, made from the declarations that serve it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from runtime.control.routes import BASE, JsonBody, NoQuery, RawAnswer, RawBody, Route

_ENVELOPE_FIELDS: dict[str, Any] = {
    "success": {"type": "boolean"},
    "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Message"}},
    "messages": {"type": "array", "items": {"$ref": "#/components/schemas/Message"}},
}
_MESSAGE = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
}
_FAILURE = {
    "type": "object",
    "required": ["success", "errors", "messages", "result"],
    "properties": {**_ENVELOPE_FIELDS, "success": {"const": False}, "result": {"type": "null"}},
}

_REASONS = {
    304: "Not modified",
    400: "Something in the request is not right; the message names it",
    401: "No token, or none that is in force",
    403: "The token does not allow this",
    404: "There is no such thing, or not for this token",
    405: "The method is not possible here",
    408: "The body did not arrive in time",
    409: "The state of things does not allow this",
    412: "A condition does not hold",
    413: "Too large",
    414: "A key is too long",
    415: "The type of the body is not taken here",
    416: "There is no such range",
    429: "Too much at once",
    500: "A fault of the server's; its log has the details",
    507: "No room on the disk",
}
_NO_CONTENT = {304, 412}


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The document."""
    routes = list(routes)
    types = [kind for route in routes for kind in _types(route)]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(map(_key, types), schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        operations = paths.setdefault(BASE + route.path.replace("*}", "}"), {})
        operations[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Cloister's management API",
            "version": version("cloister"),
            "description": "In the shapes of Cloudflare's API v4. The only account is `local`.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {**components, "Message": _MESSAGE, "Failure": _FAILURE},
        },
    }


def _types(route: Route) -> list[Any]:
    kinds = [route.query, route.info]
    if isinstance(route.body, JsonBody):
        kinds.append(route.body.type)
    if not isinstance(route.result, RawAnswer):
        kinds.append(route.result)
    return [kind for kind in kinds if kind is not None and kind is not NoQuery]


def _key(kind: Any) -> str:
    return repr(kind)


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [route.family],
        "x-permission": route.needs,
        "parameters": [_path_parameter(route, name) for name in route.parameters],
        "responses": _responses(route, schemas),
    }
    if text := inspect.getdoc(route.handler):
        operation["description"] = text
    if route.query is not NoQuery:
        operation["parameters"] += _query_parameters(route.query)
    if isinstance(route.body, JsonBody):
        content = {"application/json": {"schema": schemas[_key(route.body.type)]}}
        operation["requestBody"] = {"required": not route.body.optional, "content": content}
    elif isinstance(route.body, RawBody):
        content = {media: {"schema": dict(schema)} for media, schema in route.body.media.items()}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _operation_id(route: Route) -> str:
    words = re.findall(r"[a-z0-9_]+", route.path.removeprefix("/accounts/{account}/").lower())
    return "_".join([route.method.lower(), *words])


def _path_parameter(route: Route, name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if name == "account":
        schema = {"const": "local"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(query: type[msgspec.Struct]) -> list[dict[str, Any]]:
    schema = msgspec.json.schema(query)
    properties = schema["$defs"][query.__name__]["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(properties[name])}
        for name in query.__struct_fields__
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query has no null: what may be absent is just not there."""
    kept = {name: value for name, value in schema.items() if name != "default" or value is not None}
    options = [option for option in kept.pop("anyOf", []) if option != {"type": "null"}]
    return {**kept, **options[0]} if options else kept


def _responses(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    answers: dict[str, Any] = {"200": {"description": route.summary, "content": _content(route, schemas)}}
    statuses: Sequence[int] = sorted({400, 401, 403, 404, 500, *route.statuses})
    for status in statuses:
        failure = {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}}
        answers[str(status)] = {
            "description": _REASONS[status],
            **({} if status in _NO_CONTENT else {"content": failure}),
        }
    return answers


def _content(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    if isinstance(route.result, RawAnswer):
        return {media: {"schema": {"type": "string", "format": "binary"}} for media in route.result.media}
    result = {"type": "null"} if route.result is None else schemas[_key(route.result)]
    properties = {**_ENVELOPE_FIELDS, "success": {"const": True}, "result": result}
    required = ["success", "errors", "messages", "result"]
    if route.info is not None:
        properties["result_info"] = schemas[_key(route.info)]
        required.append("result_info")
    return {"application/json": {"schema": {"type": "object", "required": required, "properties": properties}}}
