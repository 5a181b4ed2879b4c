"""Host calls as spans: the contract's functions wrapped once, when the engine is made, and only where traces are on."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from host_bindings.context import GuestContext
from host_bindings.contract import HostFunction, Interface
from runtime.engine.invocation import Invocation
from runtime.engine.linking import COUNTED
from runtime.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from opentelemetry.trace import Span


def traced(interfaces: Sequence[Interface], tracing: Tracing) -> tuple[Interface, ...]:
    """The same interfaces; of those whose calls count as host calls, every call is a span."""
    return tuple(
        replace(interface, functions=tuple(_traced(interface, function, tracing) for function in interface.functions))
        if interface.name.startswith(COUNTED)
        else interface
        for interface in interfaces
    )


def _traced(interface: Interface, function: HostFunction, tracing: Tracing) -> HostFunction:
    implementation = function.implementation
    name = _name(interface, function)

    def call(guest: GuestContext, *arguments: Any) -> Any:
        invocation = guest.invocation
        if not isinstance(invocation, Invocation):
            return implementation(guest, *arguments)
        span = tracing.host_call(invocation, invocation.request_id, invocation.name, invocation.started_ns, name)
        if span is None:
            return implementation(guest, *arguments)
        try:
            value = implementation(guest, *arguments)
        except BaseException as error:
            _end(tracing, span, error)
            raise
        if hasattr(value, "__await__"):
            return _awaited(tracing, span, value)
        span.end()
        return value

    return replace(function, implementation=call)


def _name(interface: Interface, function: HostFunction) -> str:
    """As workers' developers know it: `kv.get`, `body.read`."""
    kind, _, method = function.name.rpartition("]")
    return method if kind else f"{interface.name.partition('/')[2].partition('@')[0]}.{function.name}"


async def _awaited(tracing: Tracing, span: Span, value: Awaitable[Any]) -> Any:
    try:
        result = await value
    except BaseException as error:
        _end(tracing, span, error)
        raise
    span.end()
    return result


def _end(tracing: Tracing, span: Span, error: BaseException) -> None:
    """The kind of the error is the host's own; its text may be a tenant's."""
    tracing.fail(span, type(error).__name__)
    span.end()
