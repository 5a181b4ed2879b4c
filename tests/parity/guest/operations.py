"""Runs lists of operations in a guest, see tests/parity/__init__.py. Says the same as `operations.js`."""

import base64
import datetime
import hashlib
import inspect
import json
import math
import re

from pyodide.ffi import JsException
from workers import Blob, Headers, ReadableStream, Response

LONG = 64 * 1024


async def serve(request, binding, *, reset=None, describe=None):
    """The response to a request with operations. `reset` and `describe` are as in JavaScript."""
    operations = json.loads(await request.text())
    if reset is not None:
        await reset(binding)
    values = []
    results = []
    for operation in operations:
        value = None
        try:
            value = await perform(operation, binding, values)
            results.append({"value": await encode(value, describe)})
        except Exception as error:
            value = None
            results.append({"error": message(error), "type": type_of(error)})
        values.append(value)
    return Response(json.dumps(results))


async def perform(operation, target, values):
    value = decode(operation["on"], values) if "on" in operation else target
    for name, *given in operation["calls"]:
        if value is None:
            return None
        if name.startswith("."):
            value = getattr(value, snake(name[1:]))
            continue
        method = getattr(value, snake(name))
        if method is None:
            raise TypeError(f"no method {name}")
        value = method(*[decode(argument, values) for argument in given])
        if inspect.isawaitable(value):
            value = await value
    return value


def snake(name):
    return re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def message(error):
    return error.message if isinstance(error, JsException) else str(error)


def type_of(error):
    if isinstance(error, JsException):
        return error.name
    kinds = {json.JSONDecodeError: "SyntaxError", ValueError: "RangeError"}
    return kinds.get(type(error), type(error).__name__)


def field(value, name):
    if value is None:
        return None
    if isinstance(value, dict):
        return value.get(name)
    if isinstance(value, list):
        return value[name] if name < len(value) else None
    return getattr(value, name)


def result(given, values):
    index, *path = given
    value = values[index] if index < len(values) else None
    for name in path:
        value = field(value, name)
    return value


SPECIAL = {
    "$bytes": lambda given, values: base64.b64decode(given),
    "$number": lambda given, values: float(given),
    "$date": lambda given, values: datetime.datetime.fromtimestamp(given / 1000, datetime.UTC),
    "$buffer": lambda given, values: memoryview(base64.b64decode(given)),
    "$stream": lambda given, values: ReadableStream(base64.b64decode(given)),
    "$repeat": lambda given, values: given[0] * given[1],
    "$fill": lambda given, values: bytes([given[0]]) * given[1],
    "$headers": lambda given, values: Headers(given),
    "$blob": lambda given, values: Blob([base64.b64decode(given[0])], given[1]),
    "$undefined": lambda given, values: None,
    "$result": result,
}


def decode(value, values):
    if isinstance(value, list):
        return [decode(element, values) for element in value]
    if not isinstance(value, dict):
        return value
    name = next(iter(value), "")
    if name in SPECIAL:
        return SPECIAL[name](value[name], values)
    return {name: decode(member, values) for name, member in value.items()}


async def encode(value, describe):
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$number": number_text(value)}
    if isinstance(value, str):
        return text(value)
    described = None if describe is None else describe(value)
    if described is not None:
        return await encode(described, describe)
    if isinstance(value, datetime.datetime):
        return {"$date": round(value.timestamp() * 1000)}
    if isinstance(value, ReadableStream):
        return octets(b"".join([piece async for piece in value]))
    if isinstance(value, bytes | bytearray | memoryview):
        return octets(bytes(value))
    if isinstance(value, list | tuple):
        return [await encode(element, describe) for element in value]
    return {name: await encode(member, describe) for name, member in value.items()}


def number_text(value):
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def text(value):
    encoded = value.encode("utf-8", "surrogatepass")
    return digest(encoded) if len(encoded) > LONG else value


def octets(value):
    return digest(value) if len(value) > LONG else {"$bytes": base64.b64encode(value).decode()}


def digest(value):
    return {"$digest": hashlib.sha256(value).hexdigest(), "length": len(value)}
