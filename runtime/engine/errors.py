"""What can go wrong in an instance, and what a caller is told.

    EngineError
    +-- GuestException        the tenant's code raised and did not catch it
    +-- GuestTrapped          the guest crashed (or exited)
    +-- LimitExceeded         the code says which: see `runtime.engine.limits`
    |   +-- CpuLimitExceeded
    |   +-- WallTimeExceeded
    |   +-- MemoryLimitExceeded
    |   +-- HostCallLimitExceeded
    |   +-- RequestBodyTooLarge
    |   +-- ResponseBodyTooLarge
    |   +-- ResponseHeadersTooLarge
    |   +-- BindingLimitExceeded
    |   +-- TooBusy           every instance is taken and the queue is full
    |   +-- TooManyRequests   more in a second than the tenant may have
    +-- WorkerUnavailable     the worker cannot be started
    |   +-- WorkerStopped     it has crashed the server too often
    |   +-- CallerGone        whoever asked does not wait for the answer any more
    +-- HostFault             our own fault; the cause is in the operator's log

Each has a stable `code`, an HTTP `status`, and a `message` that is safe to show to any caller. `outcome` is what logs
and figures call it, in the words of Cloudflare's tail events.
"""

from __future__ import annotations


class EngineError(Exception):
    code = "internal"
    status = 500
    outcome = "internalError"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class GuestException(EngineError):
    """`name` and `message` are the exception's own; `traceback` is for the tenant's log only."""

    code = "exception"
    outcome = "exception"

    def __init__(self, name: str, message: str, traceback: str) -> None:
        super().__init__(message)
        self.name = name
        self.traceback = traceback


class GuestTrapped(EngineError):
    code = "trap"
    outcome = "exception"


class LimitExceeded(EngineError):
    status = 503
    outcome = "exception"


class CpuLimitExceeded(LimitExceeded):
    code = "limit.cpu"
    outcome = "exceededCpu"

    def __init__(self, limit_ms: int) -> None:
        super().__init__(f"Worker exceeded CPU time limit. (limit: {limit_ms} ms)")


class WallTimeExceeded(LimitExceeded):
    code = "limit.wall"
    status = 504
    outcome = "exceededWallTime"

    def __init__(self, limit_ms: int) -> None:
        super().__init__(f"Worker took too long to answer. (limit: {limit_ms} ms)")


class MemoryLimitExceeded(LimitExceeded):
    code = "limit.memory"
    outcome = "exceededMemory"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"Worker exceeded memory limit. (limit: {limit_bytes >> 20} MiB)")


class HostCallLimitExceeded(LimitExceeded):
    code = "limit.host_calls"

    def __init__(self, limit: int) -> None:
        super().__init__(f"Too many subrequests by single Worker invocation. (limit: {limit} host calls)")


class RequestBodyTooLarge(LimitExceeded):
    code = "limit.request_body"
    status = 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request's body is larger than this worker takes. (limit: {limit_bytes} bytes)")


class ResponseBodyTooLarge(LimitExceeded):
    code = "limit.response_body"
    status = 502

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The worker's answer is too large. (limit: {limit_bytes} bytes)")


class ResponseHeadersTooLarge(LimitExceeded):
    code = "limit.response_headers"
    status = 502

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The headers of the worker's answer are too large. (limit: {limit_bytes} bytes)")


class BindingLimitExceeded(LimitExceeded):
    """A limit of a binding, which the tenant's code hit and did not catch."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class TooBusy(LimitExceeded):
    code = "limit.queue"
    outcome = "loadShed"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("Worker is busy: all of its instances are taken and its queue is full. Try again later.")
        self.retry_after_s = retry_after_s


class TooManyRequests(LimitExceeded):
    code = "limit.requests"
    status = 429
    outcome = "loadShed"

    def __init__(self, limit: int, retry_after_s: int) -> None:
        super().__init__(f"Worker has too many requests. (limit: {limit} a second)")
        self.retry_after_s = retry_after_s


class WorkerUnavailable(EngineError):
    code = "unavailable"
    status = 503
    outcome = "internalError"


class WorkerStopped(WorkerUnavailable):
    code = "stopped"
    outcome = "killSwitch"

    def __init__(self) -> None:
        super().__init__("This worker has been stopped, since it crashed the server again and again.")


class CallerGone(WorkerUnavailable):
    outcome = "canceled"

    def __init__(self) -> None:
        super().__init__("The caller has gone.")


class HostFault(EngineError):
    code = "internal"
