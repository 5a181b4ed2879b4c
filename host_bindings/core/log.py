"""`log`: entries for the tenant's log. The writer behind `GuestContext.log` bounds their size and rate."""

from __future__ import annotations

from host_bindings.context import GuestContext
from host_bindings.contract import Enum, HostFunction, Interface, String

LEVEL = Enum(("debug", "info", "warn", "error"))


def write(context: GuestContext, level: str, message: str) -> None:
    context.log(level, message)


INTERFACE = Interface(
    "cloister:worker/log@0.1.0",
    functions=(HostFunction("write", (LEVEL, String), None, write),),
)
