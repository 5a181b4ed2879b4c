"""A tenant's worker as the operator's code sees it: an object whose methods are the worker's."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from itertools import islice
from typing import TYPE_CHECKING, Any

from host_bindings.body import Payload, payload_bytes
from host_bindings.contract import Failure
from runtime.dispatcher.errors import RemoteError
from runtime.dispatcher.values import close_payloads, guest_payload_of, request_parts
from runtime.engine.errors import GuestException
from workers import Request, Response, rpc
from workers.content import Raw

if TYPE_CHECKING:
    from runtime.dispatcher.namespace import DispatchNamespace

RESULT_CHARACTERS_MAX = 32 * 1024 * 1024
RESULT_BYTES_MAX = 32 * 1024 * 1024
"""The JSON of what a method returns, and the bytes in it; larger things are streams."""
RESULT_PARTS_MAX = 250_000
"""Members and elements in that JSON: to build so many takes a tenth of a second, in which nothing else is done."""

_STRING_OR_PART = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[,\[{]', re.DOTALL)

request_id_of_task: ContextVar[str] = ContextVar("request_id", default="-")
"""The request that the operator's code is handling, for the tenants' logs."""


class Stub:
    """`await stub.fetch(request)`, and `await stub.method(…)` for every public method of the worker.

    Arguments and results are JSON-like values, bytes, dates, streams, files and responses; a stream is passed on and
    not held. An exception that the worker does not catch is raised as `RemoteError`, a limit that it hits as
    `EngineError`, a script that is not there as `WorkerNotFound`.
    """

    __slots__ = ("_namespace", "_script")

    def __init__(self, namespace: DispatchNamespace, script: str) -> None:
        self._namespace = namespace
        self._script = script

    async def fetch(self, request: Request | str, init: Any = None, **options: Any) -> Response:
        """Lets the worker answer a request, or one made from an address and `Request`'s options."""
        if not isinstance(request, Request) or init is not None or options:
            request = Request(request, init, **options)
        method, url, headers, body = request_parts(request)
        try:
            answer = await self._namespace.fetch(
                self._script, method, url, headers, body, request_id=request_id_of_task.get()
            )
        except GuestException as error:
            raise RemoteError(error.name, error.message) from None
        return Response.from_parts(answer.status, answer.headers, answer.body)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_"):
            raise AttributeError(f"A worker's method cannot be called {name!r}: it is not public.")

        async def call(*arguments: Any, **named: Any) -> Any:
            return await self._call(name, arguments, named)

        return call

    async def _call(self, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        text, raw = rpc.encode([arguments, named])
        attachments = [guest_payload_of(content) for content in raw]
        try:
            result, returned = await self._namespace.call(
                self._script, method, text, attachments, request_id=request_id_of_task.get()
            )
        except GuestException as error:
            raise RemoteError(error.name, error.message) from None
        try:
            return await _decode(result, returned)
        except RemoteError:
            close_payloads(returned)
            raise

    def __repr__(self) -> str:
        return f"<Stub {self._script!r}>"


def _has_too_many_parts(result: str) -> bool:
    """Whether the JSON has more than `RESULT_PARTS_MAX` parts; in strings, commas and brackets are no parts."""
    if sum(map(result.count, ",[{")) <= RESULT_PARTS_MAX:
        return False
    parts = (found for found in _STRING_OR_PART.finditer(result) if found[0][0] != '"')
    return next(islice(parts, RESULT_PARTS_MAX, None), None) is not None


async def _decode(result: str, attachments: list[Payload]) -> Any:
    """The value that a method returned: a hostile worker wrote it. Raises `RemoteError`."""
    if len(result) > RESULT_CHARACTERS_MAX or _has_too_many_parts(result):
        raise RemoteError("RangeError", "The worker returned a value that is too large.")
    raw: list[Raw] = list(attachments)
    left = RESULT_BYTES_MAX
    try:
        for index in rpc.bytes_attached(result):
            content = await payload_bytes(attachments[index], left)
            left -= len(content)
            raw[index] = content
        return rpc.decode(result, raw)
    except Failure as failure:
        raise RemoteError(failure.name, failure.message) from None
    except (ValueError, TypeError, IndexError, RecursionError):
        raise RemoteError("TypeError", "The worker returned a value that is not one.") from None
