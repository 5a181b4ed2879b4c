"""`d1`: the host functions that a guest calls. JSON goes through as it is; the child process reads and writes it."""

from __future__ import annotations

import asyncio

from host_bindings.allowance import STATUS
from host_bindings.context import GuestContext
from host_bindings.contract import FAILURE, Failure, HostFunction, Interface, LimitReached, ResultOf, String
from host_bindings.d1.errors import D1Error


def query(context: GuestContext, binding: str, request: str) -> asyncio.Future[str]:
    try:
        return context.scope.d1(binding).query_json(request, _failure)
    except D1Error as error:
        raise _failure(error.message, error.code) from None


def exec(context: GuestContext, binding: str, sql: str) -> asyncio.Future[str]:
    try:
        return context.scope.d1(binding).exec_json(sql, _failure)
    except D1Error as error:
        raise _failure(error.message, error.code) from None


def _failure(message: str, code: str) -> Failure:
    return LimitReached(code, STATUS[code], "Error", message) if code else Failure("Error", message)


_RESULT = ResultOf(String, FAILURE)

INTERFACE = Interface(
    "cloister:worker/d1@0.1.0",
    functions=(
        HostFunction("query", (String, String), _RESULT, query, may_wait=True),
        HostFunction("exec", (String, String), _RESULT, exec, may_wait=True),
    ),
)
