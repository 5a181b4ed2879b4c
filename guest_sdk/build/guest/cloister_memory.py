"""Keeps down how much of the base's memory a worker changes: what it does not change, it shares with all others.

Everything here relies on how CPython 3.14 manages memory, and on malloc behind it (this CPython has no pools of its
own). If that changes, workers share less, and work all the same.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import linecache
import sys
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any, TextIO

from wit_world.imports.types import Payload_Empty, Payload_Text

from workers import Response, WorkerEntrypoint, environment, runtime

SETTLING_CALLS = 200
"""CPython adapts its code to what it is used for within some dozens of calls."""

SETTLING_LOADS = 60

SMALL_BYTES_MAX = 512
"""malloc has a list of free blocks for every 8 bytes of size up to here, and coarser ones above."""
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
    environment._filled = True  # there are no bindings here to ask for
    for _ in range(SETTLING_CALLS):
        worker.fetch("GET", "http://a.test/b?c=d", "host: a.test\naccept: */*", Payload_Empty())
        worker.fetch("POST", "http://a.test/", "content-type: application/json", Payload_Text('{"a": [1, "b"]}'))
        worker.call("settled", '[[{"a": 1}], {}]', [])
    environment._filled = False


def settle_loading(folder: str) -> None:
    """The same for what the build does when it loads a worker: imports modules from a folder, and fails to."""
    for number in range(SETTLING_LOADS):
        name = f"cloister_settling_{number}"
        with open(f"{folder}/{name}.py", "w") as file:
            file.write("import json\nfrom workers import Response, WorkerEntrypoint\n\n\n")
            file.write("class Default(WorkerEntrypoint):\n    async def fetch(self, request):\n")
            file.write("        return Response('settled')\n")
        json.loads(json.dumps({"main": name, "required": [name], "optional": ["nothing"]}))
        sys.path_importer_cache.clear()
        runtime.Worker(importlib.import_module(name))
        with contextlib.suppress(ImportError):
            importlib.import_module("workers.nothing")
        del sys.modules[name]
        linecache.clearcache()


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
    """Writes the address of None, and for each object that can be reached its own, its type's and the size of code."""
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
                file.write(f" {id(item)} {id(type(item))} {sys.getsizeof(item) if type(item) is CodeType else 0}")
        found = gc.get_referents(*fresh)
