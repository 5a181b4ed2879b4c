"""The one shape of every answer: {"success", "errors": [{"code", "message"}], "messages", "result"}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

import msgspec
from aiohttp import web

ANSWER_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "cloister"}


class Code(IntEnum):
    """Error codes; those below 100,000 and the namespace ones are Cloudflare's for the same condition.

    Cloudflare's products number their errors by themselves: 10013 is a fault of the server's, and in KV a namespace
    that is not there.
    """

    NOTE = 1000
    TOKEN_NOT_FOUND = 1003
    NO_ROUTE = 7003
    D1_NOT_FOUND = 7404
    D1_SQL = 7500
    D1_EXISTS = 7502
    FORBIDDEN = 9109
    AUTHENTICATION = 10000
    R2_INTERNAL = 10001
    R2_BUCKET_EXISTS = 10004
    R2_INVALID_BUCKET_NAME = 10005
    R2_BUCKET_NOT_FOUND = 10006
    R2_OBJECT_NOT_FOUND = 10007
    R2_BUCKET_NOT_EMPTY = 10008
    SCRIPT_NOT_FOUND = 10007
    KV_KEY_NOT_FOUND = 10009
    INTERNAL = 10013
    KV_NOT_FOUND = 10013
    KV_EXISTS = 10014
    INVALID = 10021
    KV_INVALID = 10001
    KV_TOO_LARGE = 10024
    TOO_LARGE = 10027
    SECRET_NOT_FOUND = 10056
    VERSION_NOT_FOUND = 10146
    NOT_ALL_DEPLOYED = 10215
    IN_USE = 10230
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


def success(result: object, result_info: object = None, messages: Sequence[str] = ()) -> web.Response:
    """`result` and `result_info` are anything that msgspec can write as JSON."""
    told = [{"code": int(Code.NOTE), "message": message} for message in messages]
    envelope: dict[str, object] = {"success": True, "errors": [], "messages": told, "result": result}
    if result_info is not None:
        envelope["result_info"] = result_info
    return _response(200, envelope, None)


def failure(error: ControlError) -> web.Response:
    errors = [{"code": int(error.code), "message": error.message}]
    envelope = {"success": False, "errors": errors, "messages": [], "result": None}
    return _response(error.status, envelope, error.headers)


def _response(status: int, envelope: object, headers: Mapping[str, str] | None) -> web.Response:
    body = msgspec.json.encode(envelope)
    return web.Response(
        status=status, body=body, content_type="application/json", headers={**ANSWER_HEADERS, **(headers or {})}
    )
