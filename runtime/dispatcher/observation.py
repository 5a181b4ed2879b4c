"""What logs, figures and tails are told of each call of a worker: one observer for each version that is open."""

from __future__ import annotations

from runtime.dispatcher.errors import Refused, WorkerNotFound
from runtime.dispatcher.namespace import DispatchNamespace
from runtime.engine.errors import CallerGone, EngineError, GuestException, LimitExceeded
from runtime.engine.invocation import Invocation
from runtime.registry import Version
from runtime.telemetry.ledger import PROCESS, Gauges
from runtime.telemetry.meters import Meters, TenantKey
from runtime.telemetry.process import process_gauges
from runtime.telemetry.tail import CalledEvent, Tails
from runtime.telemetry.tracing import Tracing


class VersionObserver:
    """Implements `runtime.engine.pool.Observer`."""

    __slots__ = ("_key", "_meter", "_meters", "_tails", "_tracing", "_version", "version_number")

    def __init__(self, meters: Meters, tails: Tails, version: Version, tracing: Tracing | None = None) -> None:
        self._version = version
        self.version_number = version.number
        self._key = TenantKey(version.tenant.namespace, version.tenant.script)
        self._meters = meters
        self._meter = meters.of(*self._key)
        self._tails = tails
        self._tracing = tracing

    def started(self, invocation: Invocation, began_ns: int) -> None:
        if self._tracing is not None:
            self._tracing.cold_start(
                invocation, invocation.request_id, invocation.name, invocation.started_ns, began_ns
            )

    def called(self, invocation: Invocation, cpu_ns: int, error: EngineError | None) -> None:
        self._meter.call(invocation.outcome, cpu_ns, invocation.host_calls, invocation.cold)
        if isinstance(error, LimitExceeded):
            self._meter.limit(error.code)
        totals = self._meters.totals(invocation.request_id)
        if totals is not None:
            totals.version = self.version_number
            totals.calls += 1
            totals.cpu_ns += cpu_ns
            totals.host_calls += invocation.host_calls
            totals.cold = totals.cold or invocation.cold
            if error is not None:
                totals.outcome = invocation.outcome
        if self._tails.wanted(self._key):
            self._tails.called(self._key, self._event(invocation, cpu_ns, error))
        if self._tracing is not None:
            self._trace(self._tracing, invocation, cpu_ns)

    def refused(self, error: EngineError, request_id: str) -> None:
        self._meter.limit(error.code)

    def _trace(self, tracing: Tracing, invocation: Invocation, cpu_ns: int) -> None:
        attributes: dict[str, str | int | float | bool] = {
            "cloister.namespace": self._version.tenant.namespace,
            "cloister.tenant": self._version.script,
            "cloister.version": self.version_number,
            "cloister.cpu_ms": cpu_ns / 1e6,
            "cloister.host_calls": invocation.host_calls,
            "cloister.cold": invocation.cold,
        }
        tracing.called(
            invocation,
            invocation.request_id,
            invocation.name,
            invocation.started_ns,
            invocation.outcome,
            attributes,
        )

    def _event(self, invocation: Invocation, cpu_ns: int, error: EngineError | None) -> CalledEvent:
        is_fetch = invocation.name == "fetch"
        method, url, headers = invocation.arguments[:3] if is_fetch else (invocation.arguments[0], "", "")
        exception = (error.name, error.message, error.traceback) if isinstance(error, GuestException) else None
        if exception is None and error is not None and not isinstance(error, CallerGone):
            exception = (type(error).__name__, error.message, "")
        return CalledEvent(
            version=self._version.id,
            request_id=invocation.request_id,
            outcome=invocation.outcome,
            method=method if is_fetch else "",
            url=url,
            headers=headers if is_fetch else "",
            rpc_method="" if is_fetch else method,
            status=invocation.status,
            exception=exception,
            cpu_ns=cpu_ns,
            started_ns=invocation.started_ns,
            error_status=error.status if error is not None else 0,
        )


def outcome_of(error: BaseException) -> str:
    """What an access line calls an error that no call of a worker stands for."""
    if isinstance(error, WorkerNotFound):
        return "scriptNotFound"
    if isinstance(error, EngineError):
        return error.outcome
    return "refused" if isinstance(error, Refused) or type(error).__name__.startswith("Invalid") else "internalError"


def gauges(namespace: DispatchNamespace, meters: Meters) -> Gauges:
    """The process's figures of now: the load of each tenant that is open, and what the process itself takes."""
    values: dict[TenantKey, dict[str, float]] = {
        TenantKey(tenant.namespace, tenant.script): {"instances": instances, "running": running, "queued": queued}
        for tenant, (instances, running, queued) in namespace.load().items()
    }
    values[PROCESS] = {**process_gauges(), "unknown_requests": meters.unknown, "forwarded_requests": meters.forwarded}
    return Gauges(values)
