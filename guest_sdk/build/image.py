"""The memory with which a component begins: read out of its core module, and written back with other content."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from guest_sdk.build.binary import (
    PREAMBLE_BYTES,
    Reader,
    Unknown,
    read_layout,
    s32,
    section,
    sections,
    sized,
    u32,
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
    image = read_memory(component)
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
    return with_memory(component, image)


def immortal_places(component: bytes, objects: Iterable[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """(address, size) of those `objects`, (address, address of the type, size) each, that are immortal."""
    image = read_memory(component)
    places = []
    for address, kind, size in objects:
        references, its_kind = struct.unpack_from("<II", image, address)
        if its_kind == kind and references >= IMMORTAL_MIN:
            places.append((address, size))
    return sorted(places)


def read_memory(component: bytes) -> bytearray:
    """What the component's memory holds when it begins. Raises `BuildError` if it is laid out in an unknown way."""
    image = bytearray()
    start, end = _memory_module(component)
    try:
        for identity, body, _ in sections(component, start, end):
            reader = Reader(component, body)
            if identity == _MEMORY:
                image = bytearray(_memory_pages(reader) * PAGE_BYTES)
            elif identity == _DATA:
                for _ in range(reader.u32()):
                    offset, content = _segment(reader)
                    image[offset : offset + len(content)] = content
    except Unknown:
        raise BuildError("componentize-py has made a memory that this build does not understand.") from None
    return image


def with_memory(component: bytes, image: bytes | bytearray) -> bytes:
    """The component with another memory to begin with, which may be larger."""
    start, end = _memory_module(component)
    new = {_MEMORY: vector([b"\x00" + u32(len(image) // PAGE_BYTES)]), _DATA: _segments(image)}
    module = component[start : start + PREAMBLE_BYTES] + b"".join(
        section(identity, new.get(identity, component[body:stop]))
        for identity, body, stop in sections(component, start, end)
    )
    return component[:PREAMBLE_BYTES] + b"".join(
        section(identity, module if body == start else component[body:stop])
        for identity, body, stop in sections(component, 0, len(component))
    )


def _memory_module(component: bytes) -> tuple[int, int]:
    """Where the core module that defines the memory begins and ends."""
    layout = read_layout(component)
    module = layout.instances[layout.exporter(component, "memory")]
    assert module is not None
    return layout.modules[module]


def _memory_pages(reader: Reader) -> int:
    if reader.u32() != 1 or reader.byte() != 0x00:
        raise Unknown  # more than one memory, or one with a maximum
    return reader.u32()


def _segment(reader: Reader) -> tuple[int, bytes]:
    """(offset, content) of an active segment of memory 0."""
    if reader.u32() != 0 or reader.byte() != _I32_CONST:
        raise Unknown
    offset = reader.s32()
    if reader.byte() != _END:
        raise Unknown
    return offset, reader.take(reader.u32())


def _segments(image: bytes | bytearray) -> bytes:
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
