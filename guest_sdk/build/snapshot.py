"""A worker's component as its base and what its code has changed in the base's memory.

The base is a component that componentize-py has made (see `base`): CPython with the SDK and the standard modules
imported. While a worker is built, `instrumented` is run: the base with a window on its memory. What the memory holds
when the worker's code has been loaded differs from the base in few places. `with_changes` adds a core module with
them: it imports the base's memory, and writes the changes there when it is instantiated, as the last of all.

So the base's part of each component is byte for byte the same, and a host can compile, keep and map it once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from guest_sdk.build import binary
from guest_sdk.build.binary import CORE_PREAMBLE, Layout, instantiation, read_layout, s32, section, sized, u32, vector

READ, SIZE, FINISH = "cloister-read", "cloister-size", "cloister-finish"
"""Exports of the instrumented base: part of its memory as ISO 8859-1 text; its size in pages of 64 KiB; makes libc and
the WASI adapter forget the files that they have opened."""

SCRATCH_BYTES = 8
"""The first bytes of the memory, where C has no object: `READ` leaves its result there."""

GAP_BYTES = 16
"""Changes that are so near become one: a segment has an overhead of about as much."""

_RESET_ADAPTER, _RESET_LIBC = "reset_adapter_state", "__wasilibc_reset_preopens"

EXPORTS_USED = ("memory", _RESET_ADAPTER, _RESET_LIBC)
"""What core modules of a base have to export for this."""

_I32 = b"\x7f"
_U32, _STRING = b"\x79", b"\x73"
_FUNCTION, _MEMORY = b"\x00", b"\x02"
_TYPES, _IMPORTS, _FUNCTIONS, _EXPORTS, _START, _CODE, _DATA, _DATA_COUNT = 1, 2, 3, 7, 8, 10, 11, 12
_END = b"\x0b"
_LATIN1, _WITH_MEMORY = b"\x02", b"\x03"


@dataclass(frozen=True)
class Change:
    """Bytes that differ from the base's."""

    offset: int
    content: bytes


def instrumented(base: bytes) -> bytes:
    """The base with the exports `READ`, `SIZE` and `FINISH`."""
    layout = read_layout(base)
    given = {
        "memory": layout.exporter(base, "memory"),
        "adapter": layout.exporter(base, _RESET_ADAPTER),
        "libc": layout.exporter(base, _RESET_LIBC),
    }
    own = len(layout.instances)
    functions = layout.defined[binary.CORE_FUNCTION_SORT]
    memory = layout.defined[binary.CORE_MEMORY_SORT]
    types = layout.defined[b"\x03"]
    exports = layout.defined[binary.FUNCTION_SORT]
    names = (READ, SIZE, FINISH)
    aliases = [b"\x00" + sort + b"\x01" + u32(own) + _name(name) for sort, name in _WINDOW_EXPORTS]
    kinds = [_function_type((_U32, _U32), _STRING), _function_type((), _U32), _function_type((), None)]
    text = [_LATIN1, _WITH_MEMORY + u32(memory)]
    options = [text, [], []]
    lifts = [b"\x00\x00" + u32(functions + i) + vector(options[i]) + u32(types + i) for i in range(3)]
    exported = [b"\x00" + _name(name) + b"\x01" + u32(exports + i) + b"\x00" for i, name in enumerate(names)]
    return base + b"".join(
        (
            section(binary.CORE_MODULE, _window()),
            section(binary.CORE_INSTANCE, vector([instantiation(len(layout.modules), given)])),
            section(binary.ALIAS, vector(aliases)),
            section(binary.TYPE, vector(kinds)),
            section(binary.CANON, vector(lifts)),
            section(binary.EXPORT, vector(exported)),
        )
    )


def with_changes(base: bytes, changes: list[Change], grown_pages: int) -> bytes:
    """The component whose memory is the base's, grown by so many pages and changed."""
    layout = read_layout(base)
    return base + b"".join(
        (
            section(binary.CORE_MODULE, patch(changes, grown_pages)),
            section(binary.CORE_INSTANCE, vector([instantiation(len(layout.modules), _memory_of(base, layout))])),
        )
    )


def find_changes(before: bytes, after: bytes) -> list[Change]:
    """Where two memories differ; `before` is filled up with zeros. The scratch bytes count as unchanged."""
    found: list[Change] = []
    start = end = -1
    for position, size in _differences(before, after):
        if start >= 0 and position - end > GAP_BYTES:
            found.append(Change(start, after[start:end]))
            start = position
        elif start < 0:
            start = position
        end = position + size
    if start >= 0:
        found.append(Change(start, after[start:end]))
    return found


def with_code_of(before: bytes, after: bytes, code: list[tuple[int, int]]) -> bytes:
    """The memory `after` with the code objects, (address, size) each, as they were `before`.

    CPython adapts code to what runs, and counts while it does, in hundreds of places that are all over the memory. What
    loading a worker does to the base's code is of no use later; and each state is as good as another, since adapted
    code checks that its assumptions hold. The objects must be immortal: what is freed may have become something else.
    """
    restored = bytearray(after)
    for address, size in code:
        restored[address : address + size] = before[address : address + size]
    return bytes(restored)


def _differences(before: bytes, after: bytes) -> Iterator[tuple[int, int]]:
    """(position, size) of words that differ, in order."""
    block, word = 4096, 8
    zeros = bytes(block)
    for start in range(0, len(after), block):
        was, now = before[start : start + block] or zeros, after[start : start + block]
        if was == now:
            continue
        for offset in range(0, block, word):
            if was[offset : offset + word] != now[offset : offset + word] and start + offset >= SCRATCH_BYTES:
                yield start + offset, word


def _memory_of(base: bytes, layout: Layout) -> dict[str, int]:
    return {"memory": layout.exporter(base, "memory")}


def _name(text: str) -> bytes:
    return sized(text.encode())


def _function_type(parameters: tuple[bytes, ...], result: bytes | None) -> bytes:
    """A component's function type."""
    listed = vector(_name(f"p{i}") + kind for i, kind in enumerate(parameters))
    return b"\x40" + listed + (b"\x01\x00" if result is None else b"\x00" + result)


def _core_type(parameters: tuple[bytes, ...], results: tuple[bytes, ...]) -> bytes:
    return b"\x60" + vector(parameters) + vector(results)


def _import(module: str, name: str, kind: bytes) -> bytes:
    return _name(module) + _name(name) + kind


def _body(code: bytes) -> bytes:
    return sized(b"\x00" + code + _END)


_MEMORY_IMPORT = _import("memory", "memory", _MEMORY + b"\x00\x00")

_WINDOW_EXPORTS = ((b"\x02", "memory"), (b"\x00", READ), (b"\x00", SIZE), (b"\x00", FINISH))
"""Core sorts and names, in the order in which the component aliases them."""


def _window() -> bytes:
    """The core module behind the exports of the instrumented base."""
    imports = [
        _MEMORY_IMPORT,
        _import("adapter", _RESET_ADAPTER, _FUNCTION + u32(2)),
        _import("libc", _RESET_LIBC, _FUNCTION + u32(2)),
    ]
    types = [_core_type((_I32, _I32), (_I32,)), _core_type((), (_I32,)), _core_type((), ())]
    store = b"\x36\x02\x00"
    # i32.store 0 (local.get 0), i32.store 4 (local.get 1), i32.const 0: where the text is, and how long
    read = b"\x41\x00\x20\x00" + store + b"\x41\x04\x20\x01" + store + b"\x41\x00"
    size = b"\x3f\x00"  # memory.size
    finish = b"\x10\x00\x10\x01"  # call 0, call 1
    exports = [_name(name) + sort + u32(i) for i, (sort, name) in zip((0, 2, 3, 4), _WINDOW_EXPORTS, strict=True)]
    return CORE_PREAMBLE + b"".join(
        (
            section(_TYPES, vector(types)),
            section(_IMPORTS, vector(imports)),
            section(_FUNCTIONS, vector([u32(0), u32(1), u32(2)])),
            section(_EXPORTS, vector(exports)),
            section(_CODE, vector([_body(read), _body(size), _body(finish)])),
        )
    )


def patch(changes: list[Change], grown_pages: int) -> bytes:
    """A core module that imports a memory, and grows and changes it when it is instantiated."""
    # memory.grow; unreachable if there is no memory to be had
    code = b"" if not grown_pages else b"\x41" + s32(grown_pages) + b"\x40\x00\x41\x7f\x46\x04\x40\x00\x0b"
    for index, change in enumerate(changes):
        # memory.init index (offset, 0, size)
        code += b"\x41" + s32(change.offset) + b"\x41\x00\x41" + s32(len(change.content))
        code += b"\xfc\x08" + u32(index) + b"\x00"
    return CORE_PREAMBLE + b"".join(
        (
            section(_TYPES, vector([_core_type((), ())])),
            section(_IMPORTS, vector([_MEMORY_IMPORT])),
            section(_FUNCTIONS, vector([u32(0)])),
            section(_START, u32(0)),
            section(_DATA_COUNT, u32(len(changes))),
            section(_CODE, vector([_body(code)])),
            section(_DATA, vector(b"\x01" + sized(change.content) for change in changes)),
        )
    )
