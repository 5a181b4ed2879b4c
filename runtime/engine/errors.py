"""What can go wrong in an instance, and what a caller is told.

    EngineError
    +-- GuestException        the tenant's code raised and did not catch it
    +-- GuestTrapped          the guest crashed (or exited)
    +-- LimitExceeded
    |   +-- CpuLimitExceeded
    |   +-- WallTimeExceeded
    |   +-- MemoryLimitExceeded
    |   +-- HostCallLimitExceeded
    +-- TooBusy               every instance is taken and the queue is full
    +-- WorkerUnavailable     the worker cannot be started
    +-- HostFault             our own fault; the cause is in the operator's log

Each has a stable `code`, an HTTP `status`, and a `message` that is safe to show to any caller.
"""

from __future__ import annotations


class EngineError(Exception):
    code = "internal"
    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class GuestException(EngineError):
    """`name` and `message` are the exception's own; `traceback` is for the tenant's log only."""

    code = "exception"

    def __init__(self, name: str, message: str, traceback: str) -> None:
        super().__init__(message)
        self.name = name
        self.traceback = traceback


class GuestTrapped(EngineError):
    code = "trap"


class LimitExceeded(EngineError):
    status = 503


class CpuLimitExceeded(LimitExceeded):
    code = "limit.cpu"

    def __init__(self, limit_ms: int) -> None:
        super().__init__(f"Worker exceeded CPU time limit. (limit: {limit_ms} ms)")


class WallTimeExceeded(LimitExceeded):
    code = "limit.wall"
    status = 504

    def __init__(self, limit_ms: int) -> None:
        super().__init__(f"Worker took too long to answer. (limit: {limit_ms} ms)")


class MemoryLimitExceeded(LimitExceeded):
    code = "limit.memory"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"Worker exceeded memory limit. (limit: {limit_bytes >> 20} MiB)")


class HostCallLimitExceeded(LimitExceeded):
    code = "limit.host_calls"

    def __init__(self, limit: int) -> None:
        super().__init__(f"Too many subrequests by single Worker invocation. (limit: {limit} host calls)")


class TooBusy(EngineError):
    code = "limit.queue"
    status = 503

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("Worker is busy: all of its instances are taken and its queue is full. Try again later.")
        self.retry_after_s = retry_after_s


class WorkerUnavailable(EngineError):
    code = "unavailable"
    status = 503


class HostFault(EngineError):
    code = "internal"
