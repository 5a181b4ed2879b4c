"""Traces: what a request's time went to, sent to an OpenTelemetry collector (OTLP over HTTP). Off unless asked for.

A request is a span; each call of a worker in it is a span below; below that are the cold start and each host call. A
span has a name, times, figures and an outcome, and nothing that a caller or a worker has sent: no address, header,
body, key, SQL or log. The library is an optional dependency, imported only here and only when traces are on.
"""

from __future__ import annotations

import os
import socket
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from time import perf_counter_ns
from typing import TYPE_CHECKING

from runtime.settings import ServerSettings, SettingsError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, SpanKind, Tracer

OPEN_MAX = 10_000
"""Requests that are traced at the same time."""

ENDED_KEPT = 1_000
"""Of how many requests that are over it is remembered that they are traced: a worker may go on after its answer."""

HOST_CALLS_MAX = 128
"""Host calls of one call that have spans of their own; how many there were is said in any case."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
"""Methods that are shown as they are; others are a caller's text."""


@dataclass(slots=True)
class _Call:
    span: Span
    context: Context
    host_calls: int = 0


@dataclass(slots=True)
class _Request:
    context: Context
    span: Span | None
    calls: dict[object, _Call] = field(default_factory=dict)


class Tracing:
    """Belongs to one event loop; spans are sent by a thread of the library's. Times are `perf_counter_ns`."""

    def __init__(self, provider: TracerProvider, trust_callers: bool) -> None:
        from opentelemetry.trace import NonRecordingSpan, SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("cloister", version("cloister"))
        self._server: SpanKind = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)
        self._within = set_span_in_context
        self._remembered = NonRecordingSpan
        self._extract = TraceContextTextMapPropagator().extract if trust_callers else None
        self._open: OrderedDict[str, _Request] = OrderedDict()
        self._ended: OrderedDict[str, _Request] = OrderedDict()

    def begin(self, request_id: str, method: str, started_ns: int, traceparent: str | None) -> None:
        """A request has come in. `traceparent` is the caller's (W3C Trace Context), heeded if callers are trusted."""
        context = self._extract({"traceparent": traceparent}) if self._extract and traceparent else None
        name = method if method in METHODS else "_OTHER"
        span = self._tracer.start_span(
            name,
            context,
            self._server,
            {"http.request.method": name, "cloister.request_id": request_id},
            start_time=_since_1970(started_ns),
        )
        if not span.is_recording():
            return
        self._open[request_id] = _Request(self._within(span), span)
        if len(self._open) > OPEN_MAX:
            self._open.popitem(last=False)

    def end(self, request_id: str, status: int, outcome: str, attributes: Mapping[str, str | int | float]) -> None:
        """It has been answered."""
        request = self._open.pop(request_id, None)
        if request is None or request.span is None:
            return
        request.span.set_attributes({"http.response.status_code": status, "cloister.outcome": outcome, **attributes})
        if status >= 500:
            request.span.set_status(self._failed)
            request.span.set_attribute("error.type", outcome)
        request.span.end()
        # What is left of it is small.
        request.context, request.span = self._within(self._remembered(request.span.get_span_context())), None
        self._ended[request_id] = request
        if len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)

    def cold_start(self, call: object, request_id: str, name: str, started_ns: int, began_ns: int) -> None:
        """An instance has been made for a call; it began at `began_ns` and is ready now."""
        found = self._call(call, request_id, name, started_ns)
        if found is not None:
            span = self._tracer.start_span("cold start", found.context, start_time=_since_1970(began_ns))
            span.end()

    def host_call(self, call: object, request_id: str, name: str, started_ns: int, function: str) -> Span | None:
        """A span for a host call that begins now; None: not traced."""
        found = self._call(call, request_id, name, started_ns)
        if found is None or found.host_calls >= HOST_CALLS_MAX:
            return None
        found.host_calls += 1
        return self._tracer.start_span(function, found.context)

    def called(
        self,
        call: object,
        request_id: str,
        name: str,
        started_ns: int,
        outcome: str,
        attributes: Mapping[str, str | int | float | bool],
    ) -> None:
        """The guest is done with a call."""
        request = self._of(request_id)
        found = self._call(call, request_id, name, started_ns)
        if request is None or found is None:
            return
        found.span.set_attributes({"cloister.outcome": outcome, **attributes})
        if outcome != "ok":
            self.fail(found.span, outcome)
        found.span.end()
        request.calls.pop(call, None)

    def fail(self, span: Span, kind: str) -> None:
        span.set_status(self._failed)
        span.set_attribute("error.type", kind)

    def close(self) -> None:
        """Sends what is left, for some seconds at most. Blocks."""
        self._provider.shutdown()

    def _of(self, request_id: str) -> _Request | None:
        return self._open.get(request_id) or self._ended.get(request_id)

    def _call(self, call: object, request_id: str, name: str, started_ns: int) -> _Call | None:
        """The call's span, which begins with its first use; None if its request is not traced."""
        request = self._of(request_id)
        if request is None:
            return None
        found = request.calls.get(call)
        if found is None:
            span = self._tracer.start_span(f"worker {name}", request.context, start_time=_since_1970(started_ns))
            found = request.calls[call] = _Call(span, self._within(span))
        return found


def open_tracing(settings: ServerSettings) -> Tracing | None:
    """What the settings ask for; None if that is nothing. Raises `SettingsError` if the library is not there."""
    if not settings.traces:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
        from opentelemetry.util.re import parse_env_headers
    except ImportError as error:
        raise SettingsError(
            f"traces: {error.name} is not installed: pip install 'cloister[otlp]', in the server's environment"
        ) from None
    resource = Resource.create(
        {
            "service.name": settings.traces_service,
            "service.version": version("cloister"),
            "service.instance.id": f"{socket.gethostname()}/{os.getpid()}",
        }
    )
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(settings.traces_ratio), resource=resource, shutdown_on_exit=False
    )
    headers = parse_env_headers(settings.traces_headers or "", liberal=True)
    exporter = OTLPSpanExporter(endpoint=settings.traces_endpoint, headers=headers)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider, settings.traces_trust_callers)


def _since_1970(moment_ns: int) -> int:
    return time.time_ns() - (perf_counter_ns() - moment_ns)
