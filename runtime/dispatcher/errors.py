"""What goes wrong on a request's way, as HTTP: one status and one JSON body for each.

The body is `{"error": message, "code": code}`. A code is stable; a message is for people. Neither ever has anything of
the host's or of a tenant's in it that the caller may not see.

    code                     status
    missing_user             400    the request names no tenant (plain text, see `resolver`)
    invalid_request          400    the request's headers, address or body cannot be passed on
    unauthorized             401    the request's credential is missing or not good
    untrusted_caller         403    the tenant is taken from a header, and not from this caller
    worker_not_found         404    no such tenant
    method_not_allowed       405    CONNECT
    request_timeout          408    the request's body does not arrive
    body_too_large           413    the request's body is larger than the limit
    exception                500    the tenant's code raised an error that it did not catch
    internal                 500    a fault of the host's; its log has the details
    invalid_answer           502    the tenant's answer cannot be put on the wire
    upstream_failed          502    the server behind this one, which may have the tenant, broke the request off
    upstream_unavailable     503    it cannot be reached
    upstream_timeout         504    it does not answer
    upstream_loop            508    the request goes round in circles
    (the engine's codes)            limits and traps: see `runtime.engine.errors`
"""

from __future__ import annotations

import json

from runtime.dispatcher.framing import InvalidAnswer, InvalidRequest
from runtime.engine.errors import EngineError, GuestException, TooBusy, TooManyRequests

JSON_HEADERS = "content-type: application/json\n"


class Refused(Exception):
    """A request that the dispatcher answers itself, with this status and this text."""

    def __init__(self, status: int, code: str, message: str, *, headers: str = "", plain: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers
        self.plain = plain


class WorkerNotFound(Refused):
    """No script of that name is deployed. Raised by a stub's `fetch` and calls, never by `get`."""

    def __init__(self, script: str) -> None:
        super().__init__(404, "worker_not_found", "Worker not found")
        self.script = script

    def __str__(self) -> str:
        return f"Worker not found: {self.script[:64]}"


class RemoteError(Exception):
    """An exception that a tenant's code raised in a call, as the operator's code sees it.

    `name` is the class of the original, `message` its text. The traceback is in the tenant's log.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


def refusal(error: BaseException) -> Refused:
    """The answer for an error. What is not known to be safe to show becomes `internal`."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, RemoteError | GuestException):
        return Refused(500, "exception", "The worker threw an exception.")
    if isinstance(error, TooBusy | TooManyRequests):
        retry_after_s = max(1, round(error.retry_after_s))
        return Refused(error.status, error.code, error.message, headers=f"retry-after: {retry_after_s}\n")
    if isinstance(error, InvalidRequest):
        return Refused(400, "invalid_request", str(error))
    if isinstance(error, InvalidAnswer):
        return Refused(502, "invalid_answer", f"The worker's answer cannot be sent: {error}.")
    if isinstance(error, EngineError):
        return Refused(error.status, error.code, error.message)
    return Refused(500, "internal", "The server failed to handle this request.")


def answer_of(refused: Refused) -> tuple[int, str, str]:
    """Status, header text and body."""
    if refused.plain:
        return refused.status, f"content-type: text/plain; charset=utf-8\n{refused.headers}", refused.message
    body = json.dumps({"error": refused.message, "code": refused.code})
    return refused.status, JSON_HEADERS + refused.headers, body
