"""The memory with which a component begins: read out of its core module, and written back with immortal objects."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from guest_sdk.build.binary import (
    CORE_MODULE,
    PREAMBLE_BYTES,
    Reader,
    Unknown,
    read_layout,
    s32,
    section,
    sections,
    sized,
    vector,
)
from guest_sdk.build.errors import BuildError

PAGE_BYTES = 64 * 1024
GAP_BYTES = 64
"""So many zeros are worth a new segment."""

_MEMORY, _DATA = 5, 11
_I32_CONST, _END = 0x41, 0x0B

IMMORTAL_MIN = 1 << 30
"""CPython counts no references to an object whose count is at least this (on machines of 32 bits)."""

REFERENCES_MAX = 1 << 20
"""No count of references is so high, and no address so low: where an object was, a free block has an address."""

MATCHING_MIN = 0.9
"""What part of the objects must be found again for the layout to count as known."""


def with_immortals(component: bytes, objects: Iterable[tuple[int, int]], immortal: int) -> bytes:
    """The component with `objects`, (address, address of the type) each, made immortal.

    An object's count of references is its first word, and changes whenever the object is so much as looked at. Objects
    that are immortal have no count: they leave the memory as it is, so that instances can share it. `immortal` is the
    address of an object that is immortal anyway. Objects that have gone meanwhile are passed over. Raises `BuildError`
    if the memory does not look as CPython 3.14 makes it.
    """
    layout = read_layout(component)
    start, end = layout.modules[layout.instances[layout.exporter(component, "memory")] or 0]
    module = component[start:end]
    image = _read(module)
    (count,) = struct.unpack_from("<I", image, immortal)
    found = wanted = 0
    for address, kind in objects:
        references, its_kind = struct.unpack_from("<II", image, address)
        wanted += 1
        if its_kind == kind and 0 < references < REFERENCES_MAX:
            struct.pack_into("<I", image, address, count)
            found += 1
        elif its_kind == kind and references >= IMMORTAL_MIN:
            found += 1
    if count < IMMORTAL_MIN or found < MATCHING_MIN * wanted:
        raise BuildError("This build does not know how this version of CPython keeps its objects.")
    changed = module[:PREAMBLE_BYTES] + b"".join(
        section(identity, _segments(image) if identity == _DATA else module[body:stop])
        for identity, body, stop in sections(module, 0, len(module))
    )
    return b"".join(
        (
            component[:PREAMBLE_BYTES],
            *(
                section(identity, changed if (identity, body) == (CORE_MODULE, start) else component[body:stop])
                for identity, body, stop in sections(component, 0, len(component))
            ),
        )
    )


def _read(module: bytes) -> bytearray:
    image = bytearray()
    for identity, body, _ in sections(module, 0, len(module)):
        reader = Reader(module, body)
        if identity == _MEMORY:
            if reader.u32() != 1:
                raise Unknown
            reader.byte()
            image = bytearray(reader.u32() * PAGE_BYTES)
        elif identity == _DATA:
            for _ in range(reader.u32()):
                if reader.u32() != 0 or reader.byte() != _I32_CONST:
                    raise Unknown
                offset = reader.s32()
                if reader.byte() != _END:
                    raise Unknown
                content = reader.take(reader.u32())
                image[offset : offset + len(content)] = content
    return image


def _segments(image: bytearray) -> bytes:
    """A data section that makes a memory of zeros this one."""
    found: list[bytes] = []
    zeros = bytes(GAP_BYTES)
    position, size = 0, len(image)
    while position < size:
        if image[position : position + GAP_BYTES] == zeros:
            position += GAP_BYTES
            continue
        start = position
        while position < size and image[position : position + GAP_BYTES] != zeros:
            position += GAP_BYTES
        content = bytes(image[start:position])
        found.append(b"\x00\x41" + s32(start) + b"\x0b" + sized(content))
    return vector(found)
