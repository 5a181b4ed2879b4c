"""`d1`: the host functions that a guest calls. JSON goes through as it is; the child process reads and writes it."""

from __future__ import annotations

from host_bindings.allowance import STATUS
from host_bindings.context import GuestContext
from host_bindings.contract import FAILURE, Failure, HostFunction, Interface, LimitReached, ResultOf, String
from host_bindings.d1.errors import D1Error


async def query(context: GuestContext, binding: str, request: str) -> str:
    try:
        return await context.scope.d1(binding).query_json(request)
    except D1Error as error:
        raise _failure(error) from None


async def exec(context: GuestContext, binding: str, sql: str) -> str:
    try:
        return await context.scope.d1(binding).exec_json(sql)
    except D1Error as error:
        raise _failure(error) from None


def _failure(error: D1Error) -> Failure:
    if error.code:
        return LimitReached(error.code, STATUS[error.code], "Error", error.message)
    return Failure("Error", error.message)


_RESULT = ResultOf(String, FAILURE)

INTERFACE = Interface(
    "cloister:worker/d1@0.1.0",
    functions=(
        HostFunction("query", (String, String), _RESULT, query, may_wait=True, prompt=True),
        HostFunction("exec", (String, String), _RESULT, exec, may_wait=True, prompt=True),
    ),
)
