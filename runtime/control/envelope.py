"""The one shape of every answer: {"success", "errors": [{"code", "message"}], "messages", "result"}."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import IntEnum

from aiohttp import web

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "cloister"}


class Code(IntEnum):
    """Error codes; those below 100,000 and the namespace ones are Cloudflare's for the same condition."""

    NO_ROUTE = 7003
    FORBIDDEN = 9109
    AUTHENTICATION = 10000
    SCRIPT_NOT_FOUND = 10007
    INTERNAL = 10013
    INVALID = 10021
    TOO_LARGE = 10027
    METHOD_NOT_ALLOWED = 10405
    NAMESPACE_NOT_FOUND = 100119
    NAMESPACE_CONFLICT = 100120


class ControlError(Exception):
    """An answer other than success. The message is for the caller: what is wrong and what would be right."""

    def __init__(self, status: int, code: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


def invalid(message: str) -> ControlError:
    """The request is not what the API takes."""
    return ControlError(400, Code.INVALID, message)


def success(result: object, result_info: object = None) -> web.Response:
    envelope: dict[str, object] = {"success": True, "errors": [], "messages": [], "result": result}
    if result_info is not None:
        envelope["result_info"] = result_info
    return _response(200, envelope, None)


def failure(error: ControlError) -> web.Response:
    errors = [{"code": int(error.code), "message": error.message}]
    envelope = {"success": False, "errors": errors, "messages": [], "result": None}
    return _response(error.status, envelope, error.headers)


def _response(status: int, envelope: object, headers: Mapping[str, str] | None) -> web.Response:
    body = json.dumps(envelope).encode()
    return web.Response(
        status=status, body=body, content_type="application/json", headers={**_HEADERS, **(headers or {})}
    )
