"""The virtual WASI 0.2 world: what a guest's toolchain and C library import, without a machine behind it.

A guest gets a clock, random numbers, timers, and two output streams that end in the tenant's log. It gets no
environment, no arguments, no files and no network: what asks for them is answered with an error if WASI's types allow
one, and traps otherwise. Everything that `wasi:cli/command` of 0.2 imports can be linked; interfaces are declared as
0.2.0, which stands for every 0.2.x. Entered by `host_bindings.interfaces`, and by the engine for `flush` (to be
called after each call of an instance) and the exceptions.
"""

from __future__ import annotations

from host_bindings.contract import Interface
from host_bindings.wasi import cli, clocks, filesystem, poll, random, sockets, streams
from host_bindings.wasi.console import flush
from host_bindings.wasi.errors import GuestExit, GuestTrap

__all__ = ["INTERFACES", "GuestExit", "GuestTrap", "flush"]

INTERFACES: tuple[Interface, ...] = (
    poll.INTERFACE,
    *streams.INTERFACES,
    *clocks.INTERFACES,
    *random.INTERFACES,
    *cli.INTERFACES,
    *filesystem.INTERFACES,
    *sockets.INTERFACES,
)
