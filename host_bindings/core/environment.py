"""`environment`: what is bound to the worker, without what stands behind it."""

from __future__ import annotations

from host_bindings.context import GuestContext
from host_bindings.contract import HostFunction, Interface, String


def bindings(context: GuestContext) -> str:
    return context.scope.description


INTERFACE = Interface(
    "cloister:worker/environment@0.1.0",
    functions=(HostFunction("bindings", (), String, bindings),),
)
