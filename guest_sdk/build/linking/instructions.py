"""The code of WebAssembly functions: found where it has an index in it, passed over where it has none.

A module of CPython's size has millions of instructions. Nearly all of them have no index of a function, global, type
or table; a regular expression takes whole runs of those at once.

Source: the core specification, chapter 5.4 (binary format of instructions).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from guest_sdk.build.binary import Reader, Unknown

CALL, CALL_INDIRECT, GLOBAL_GET, GLOBAL_SET = 0x10, 0x11, 0x23, 0x24
BLOCKS = frozenset((0x02, 0x03, 0x04))
"""block, loop and if, where they have a type's index."""
_BR_TABLE = 0x0E
_INDEXED = BLOCKS | {CALL, CALL_INDIRECT, GLOBAL_GET, GLOBAL_SET}

_LEB = rb"[\x80-\xff]*+[\x00-\x7f]"
_VALUE_TYPES = rb"\x6f\x70\x7b-\x7f"
_WITHOUT_INDEX = re.compile(
    # control, parametric and numeric instructions, ref.is_null
    rb"(?:[\x00\x01\x05\x0b\x0f\x1a\x1b\x45-\xc4\xd1]"
    # br, br_if, local.*, i32.const, i64.const
    rb"|[\x0c\x0d\x20-\x22\x41\x42]" + _LEB
    # loads and stores of memory 0
    + rb"|[\x28-\x3e][\x00-\x3f]" + _LEB
    # blocks without parameters, and with at most one result
    + rb"|[\x02-\x04][\x40" + _VALUE_TYPES + rb"]"
    # memory.size, memory.grow, f32.const, f64.const
    rb"|[\x3f\x40]\x00|\x43[\x00-\xff]{4}|\x44[\x00-\xff]{8}"
    # saturating truncation, memory.copy, memory.fill, select with a type
    rb"|\xfc(?:[\x00-\x07]|\x0a\x00\x00|\x0b\x00)|\x1c\x01[" + _VALUE_TYPES + rb"])++"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Use:
    """An instruction with an index, at `code[start:end]`."""

    start: int
    end: int
    opcode: int
    index: int
    """Of a function, a global, or a type."""
    table: int
    """Of `call_indirect`; else 0."""


def find_uses(code: bytes) -> list[Use]:
    """The instructions of a function's body that have an index. Raises `Unknown` for one that this does not know."""
    reader = Reader(code, 0)
    for _ in range(reader.u32()):  # the locals: how many of which type
        reader.u32()
        reader.byte()
    found: list[Use] = []
    size = len(code)
    while True:
        run = _WITHOUT_INDEX.match(code, reader.position)
        if run is not None:
            reader.position = run.end()
        if reader.position >= size:
            return found
        start = reader.position
        opcode = reader.byte()
        if opcode in _INDEXED:
            index = reader.u32()
            table = reader.u32() if opcode == CALL_INDIRECT else 0
            found.append(Use(start, reader.position, opcode, index, table))
        elif opcode == _BR_TABLE:
            for _ in range(reader.u32() + 1):
                reader.u32()
        else:
            raise Unknown
