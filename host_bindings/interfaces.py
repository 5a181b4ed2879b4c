"""All that a component may import, as the engine's linker and the check of every upload take it."""

from __future__ import annotations

from host_bindings import core, wasi
from host_bindings.contract import Interface
from host_bindings.d1.binding import INTERFACE as D1
from host_bindings.kv.binding import INTERFACE as KV
from host_bindings.r2.binding import INTERFACE as R2

ALL: tuple[Interface, ...] = (*core.INTERFACES, KV, R2, D1, *wasi.INTERFACES)
