"""From an uploaded file to the parts that are stored: copied, checked, hoisted. Blocks: call it in a thread."""

from __future__ import annotations

import hashlib
import mmap
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runtime.artifacts.component import read_outline
from runtime.artifacts.errors import SCRIPT_TOO_LARGE, RejectedUpload
from runtime.artifacts.hoisting import COPY_BYTES, OWN_MODULE, copy, digest, find_hoisted, import_name, write_rewritten
from runtime.artifacts.limits import MIB, UploadLimits

MANIFEST_FORMAT = 1


class StoredPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Some WebAssembly as it is before packing."""

    sha256: str
    size: int
    """In bytes."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an artifact is made of. Its digest is the upload's SHA-256."""

    format: int
    size: int
    """Of the upload, in bytes."""
    component: StoredPart
    """The component, with imports in place of its hoisted modules."""
    modules: tuple[StoredPart, ...]
    own: str = ""
    """The SHA-256 of the one among them that the component imports as its own (see `hoisting.OWN_MODULE`)."""

    @property
    def parts(self) -> tuple[StoredPart, ...]:
        return (self.component, *self.modules)

    @property
    def imports(self) -> dict[str, StoredPart]:
        """The modules by the name under which the component imports them."""
        return {OWN_MODULE if part.sha256 == self.own else import_name(part.sha256): part for part in self.modules}


@dataclass(frozen=True)
class Split:
    """An upload in parts: files in a room of the workspace."""

    manifest: Manifest
    component: Path
    modules: tuple[Path, ...]


def take_in(upload: Path, target: Path, limits: UploadLimits) -> tuple[str, int]:
    """Copies the upload, so that nobody changes it while it is read. Returns its SHA-256 (hex) and size in bytes."""
    state, size = hashlib.sha256(), 0
    with upload.open("rb") as reading, target.open("xb") as writing:
        while chunk := reading.read(COPY_BYTES):
            size += len(chunk)
            if size > limits.upload_bytes_max:
                raise RejectedUpload(
                    f"The upload is larger than {_readable(limits.upload_bytes_max)}. "
                    "Leave out files and packages that the worker does not need.",
                    status=413,
                    code=SCRIPT_TOO_LARGE,
                )
            state.update(chunk)
            writing.write(chunk)
    if not size:
        raise RejectedUpload("The upload is empty.")
    return state.hexdigest(), size


def split(upload: Path, room: Path, limits: UploadLimits, *, hoisting: bool = True) -> Split:
    """Writes the upload's parts into `room`. Raises `RejectedUpload` if it is not a component within the limits."""
    with upload.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        outline = read_outline(data, limits)
        hoisted = find_hoisted(data, outline) if hoisting else ()
        component = room / ("component.wasm" if hoisting else "whole.wasm")
        with component.open("xb") as writing:
            write_rewritten(data, hoisted, writing)
        modules, paths = [], []
        for module in hoisted:
            path = room / f"{module.sha256}.wasm"
            with path.open("xb") as writing:
                copy(data, module.section.body, module.section.end, writing)
            modules.append(StoredPart(module.sha256, path.stat().st_size))
            paths.append(path)
        size = len(data)
    with component.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        part = StoredPart(digest(data, 0, len(data)), len(data))
    own = "".join(module.sha256 for module in hoisted if module.own)
    return Split(Manifest(MANIFEST_FORMAT, size, part, tuple(modules), own), component, tuple(paths))


def _readable(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size:,} bytes"
