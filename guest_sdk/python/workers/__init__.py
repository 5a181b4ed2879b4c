"""The `workers` package: what a worker's code imports, with the names of Cloudflare's Python Workers.

In a guest the bindings in `self.env` reach the host; on the host the operator's dispatch code uses the same Request,
Response and forms.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from workers.content import ReadableStream
from workers.entrypoint import WorkerEntrypoint
from workers.environment import env
from workers.forms import Blob, File, FormData
from workers.headers import Headers
from workers.http import Request, Response

FetchResponse = Response

__all__ = [
    "Blob",
    "FetchResponse",
    "File",
    "FormData",
    "Headers",
    "ReadableStream",
    "Request",
    "Response",
    "WorkerEntrypoint",
    "env",
    "fetch",
    "handler",
    "python_from_rpc",
    "python_to_rpc",
    "waitUntil",
    "wait_until",
]


async def fetch(resource: Any = "", *_: Any, **__: Any) -> Response:
    """Not available: a worker reaches nothing but its bindings. Raises OSError."""
    url = str(getattr(resource, "url", resource))
    raise OSError(f"fetch({url[:200]!r}): workers have no network here; only the bindings of self.env can be reached.")


def handler(function: Any) -> Any:
    """Marks a handler of the older style; it is found by its name."""
    return function


def wait_until(work: Awaitable[Any]) -> None:
    """Goes on with the work after the answer to the current request has been sent."""
    from workers.runtime import current_context

    current_context().wait_until(work)


waitUntil = wait_until


def python_to_rpc(value: Any) -> Any:
    return value


def python_from_rpc(value: Any) -> Any:
    return value
