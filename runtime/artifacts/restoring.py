"""Putting a component together again as it was uploaded: what `hoisting` took out goes back to its place.

The result is compared with the upload's SHA-256, so that what is given out is what came in, or nothing.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from runtime.artifacts.binary import PREAMBLE_BYTES, Buffer, Malformed, Reader, u32
from runtime.artifacts.component import CORE_MODULE_SORT, CORE_SORT, SectionId
from runtime.artifacts.errors import ArtifactUnusable
from runtime.artifacts.hoisting import COPY_BYTES, copy


def restore(component: Path, modules: Mapping[str, Path], target: Path, digest: str) -> None:
    """Writes the component with its hoisted modules, which are given by import name, to `target`. Blocks.

    Raises `ArtifactUnusable` if that does not give the bytes with this SHA-256: an upload with numbers that are longer
    than they need be is not restored.
    """
    try:
        with (
            component.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            target.open("xb") as writing,
        ):
            _write(data, {name.encode(): path for name, path in modules.items()}, writing)
    except Malformed:
        raise _not_the_same() from None
    with target.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise _not_the_same()


def _write(data: Buffer, modules: Mapping[bytes, Path], target: BinaryIO) -> None:
    reader = Reader(data, PREAMBLE_BYTES, len(data))
    copied, core_type = 0, 0
    while not reader.at_end:
        start = reader.position
        identity = reader.byte()
        size = reader.u32()
        body = reader.position
        reader.skip(size)
        if identity == SectionId.CORE_TYPE:
            core_type = start
        elif identity == SectionId.IMPORT and (name := _hoisted_name(data, body, reader.position)) in modules:
            # `hoisting` writes the module's type right before its import.
            copy(data, copied, core_type, target)
            path = modules[name]
            target.write(bytes((SectionId.CORE_MODULE,)) + u32(path.stat().st_size))
            with path.open("rb") as module:
                while chunk := module.read(COPY_BYTES):
                    target.write(chunk)
            copied = reader.position
    copy(data, copied, len(data), target)


def _hoisted_name(data: Buffer, start: int, end: int) -> bytes:
    """The name in a section with the import of one core module, else b""."""
    reader = Reader(data, start, end)
    try:
        if reader.u32() != 1 or reader.byte() != 0:
            return b""
        name = reader.name()
        return name if (reader.byte(), reader.byte()) == (CORE_SORT, CORE_MODULE_SORT) else b""
    except Malformed:
        return b""


def _not_the_same() -> ArtifactUnusable:
    return ArtifactUnusable("The component cannot be put together as it was uploaded. It runs all the same.")
