"""Keeps down how much of the base's memory a worker changes: what it does not change, it shares with all others.

Everything here relies on how CPython 3.14 manages memory; if that changes, workers share less, and work all the same.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import ModuleType
from typing import Any, TextIO

from wit_world.imports.types import Payload_Empty, Payload_Text

from workers import Response, WorkerEntrypoint, runtime

SETTLING_CALLS = 200
"""CPython adapts its code to what it is used for within some dozens of calls."""

SMALL_BYTES_MAX = 512
"""Objects up to this size come from CPython's own pools, one for every 8 bytes of size; larger ones from malloc."""
BYTES_OVERHEAD = 17
"""Of a bytes object, on a machine of 32 bits."""
LARGE_SIZES = [2**n for n in range(18, 9, -1)] + [3 * 2**n for n in range(10, 7, -1)] + [640, 528]

_filling: list[object] = []


def settle() -> None:
    """Does what every request does, so that what CPython notes in its code and types is the base's already."""

    class Default(WorkerEntrypoint):
        async def fetch(self, request: Any) -> Any:
            if request.method == "GET":
                return Response("settled", headers={"content-type": "text/plain"})
            return Response.json(await request.json())

        async def settled(self, value: Any) -> Any:
            return value

    module: Any = ModuleType("settled")
    module.Default = Default
    worker = runtime.Worker(module)
    runtime._filled = True  # there are no bindings here to ask for
    for _ in range(SETTLING_CALLS):
        worker.fetch("GET", "http://a.test/b?c=d", "host: a.test\naccept: */*", Payload_Empty())
        worker.fetch("POST", "http://a.test/", "content-type: application/json", Payload_Text('{"a": [1, "b"]}'))
        worker.call("settled", '[[{"a": 1}], {}]', [])
    runtime._filled = False


def freeze() -> None:
    """Takes all objects that are there out of the garbage collector's sight: looking at them would change them."""
    gc.collect()
    gc.freeze()


def fill_holes() -> None:
    """Takes the free memory between the objects that are there, so that new objects lie side by side."""
    top = id(bytes(2**20))
    for size in LARGE_SIZES:
        _fill(top, bytes, size)
    for size in range(SMALL_BYTES_MAX, BYTES_OVERHEAD, -8):
        _fill(top, bytes, size - BYTES_OVERHEAD)
    _fill(top, float, "0.5")
    _fill(top, object)


def _fill(top: int, make: Callable[..., object], *arguments: object) -> None:
    while True:
        item = make(*arguments)
        if id(item) > top:
            return
        _filling.append(item)


def list_objects(file: TextIO) -> None:
    """Writes the address of None, and for each object that can be reached its own and its type's."""
    gc.unfreeze()
    found = gc.get_objects()
    seen: set[int] = set()
    file.write(f"{id(None)}")
    while found:
        fresh = []
        for item in found:
            if id(item) not in seen:
                seen.add(id(item))
                fresh.append(item)
                file.write(f" {id(item)} {id(type(item))}")
        found = gc.get_referents(*fresh)
