"""The outline of a component: what its sections are and how much is in them, read before anything expensive runs.

This is not a validator: wasmtime validates what it compiles. It finds out what an upload is, counts its parts, and
gives `hoisting` the places of the core modules.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from runtime.artifacts.binary import COMPONENT, CORE_MODULE, MAGIC, PREAMBLE_BYTES, Buffer, Malformed, Reader
from runtime.artifacts.errors import RejectedUpload
from runtime.artifacts.limits import UploadLimits


class SectionId(IntEnum):
    """Sections of a component (https://github.com/WebAssembly/component-model, design/mvp/Binary.md)."""

    CUSTOM = 0
    CORE_MODULE = 1
    CORE_INSTANCE = 2
    CORE_TYPE = 3
    COMPONENT = 4
    INSTANCE = 5
    ALIAS = 6
    TYPE = 7
    CANON = 8
    START = 9
    IMPORT = 10
    EXPORT = 11
    VALUE = 12


_COUNTED = frozenset(
    {
        SectionId.CORE_INSTANCE,
        SectionId.CORE_TYPE,
        SectionId.INSTANCE,
        SectionId.ALIAS,
        SectionId.TYPE,
        SectionId.CANON,
        SectionId.IMPORT,
        SectionId.EXPORT,
    }
)

_CORE_CUSTOM, _CORE_FUNCTION, _CORE_GLOBAL, _CORE_START, _CORE_CODE, _CORE_DATA_COUNT = 0, 3, 6, 8, 10, 12
_CORE_SECTION_MAX = 13

CORE_SORT = 0x00
CORE_MODULE_SORT = 0x11


@dataclass(frozen=True, slots=True)
class Section:
    """A section at the top level: the section's header is at `start`, its content from `body` to `end`."""

    id: SectionId
    start: int
    body: int
    end: int
    code_bytes: int = 0
    """Of a core module: the size of its code section."""


@dataclass(frozen=True)
class Outline:
    """A component's top level."""

    sections: tuple[Section, ...]
    imports: tuple[str, ...]


@dataclass
class _Tally:
    """What has been counted so far in the whole upload."""

    limits: UploadLimits
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, count: int, limit: int) -> None:
        total = self.counts[what] = self.counts.get(what, 0) + count
        if total > limit:
            raise RejectedUpload(f"The component has too many {what}: at most {limit:,} are allowed.")


def read_outline(data: Buffer, limits: UploadLimits) -> Outline:
    """Raises `RejectedUpload` if the bytes are not a component, are cut off, or have too many parts."""
    size = len(data)
    head = data[:PREAMBLE_BYTES]
    if head[:4] != MAGIC:
        raise RejectedUpload("The upload is not WebAssembly: it does not begin with the bytes 00 61 73 6D.")
    if head[4:] == CORE_MODULE:
        raise RejectedUpload(
            "The upload is a WebAssembly core module, not a component. Build it with `cloister build`, "
            "or turn it into a component (`wasm-tools component new`)."
        )
    if size < PREAMBLE_BYTES:
        raise RejectedUpload(f"The upload ends too early, at byte {size}. Build it again and upload the whole file.")
    if head[4:] != COMPONENT:
        raise RejectedUpload("The upload is in a version of WebAssembly's binary format that this host does not know.")
    tally = _Tally(limits)
    try:
        sections = tuple(_sections(Reader(data, PREAMBLE_BYTES, size), tally, 1))
        imports = tuple(_imports(data, sections, tally))
    except Malformed as error:
        raise RejectedUpload(f"The upload {error}. Build it again and upload the whole file.") from None
    return Outline(sections, imports)


def _sections(reader: Reader, tally: _Tally, depth: int) -> list[Section]:
    if depth > tally.limits.depth_max:
        raise RejectedUpload(f"The component nests components more than {tally.limits.depth_max} deep.")
    found: list[Section] = []
    while not reader.at_end:
        start = reader.position
        number = reader.byte()
        if number > SectionId.VALUE:
            raise Malformed(f"has a section of an unknown kind ({number}) at byte {start}")
        size = reader.u32()
        body = reader.position
        reader.skip(size)
        identity, inner, code_bytes = SectionId(number), Reader(reader.data, body, body + size), 0
        tally.add("sections", 1, tally.limits.sections_max)
        if identity is SectionId.CORE_MODULE:
            tally.add("core modules", 1, tally.limits.core_modules_max)
            _preamble(inner, CORE_MODULE, "core module")
            code_bytes = _core_module(inner, tally)
        elif identity is SectionId.COMPONENT:
            _preamble(inner, COMPONENT, "nested component")
            _sections(inner, tally, depth + 1)
        elif identity in _COUNTED:
            tally.add("parts", inner.u32(), tally.limits.items_max)
        found.append(Section(identity, start, body, body + size, code_bytes))
    return found


def _preamble(reader: Reader, kind: bytes, what: str) -> None:
    start = reader.position
    if reader.take(PREAMBLE_BYTES) != MAGIC + kind:
        raise Malformed(f"has no valid {what} at byte {start}")


def _core_module(reader: Reader, tally: _Tally) -> int:
    """Counts a core module's parts; returns the size of its code section."""
    limits, code_bytes = tally.limits, 0
    while not reader.at_end:
        start = reader.position
        number = reader.byte()
        if number > _CORE_SECTION_MAX:
            raise Malformed(f"has a core module with a section of an unknown kind ({number}) at byte {start}")
        size = reader.u32()
        body = reader.position
        reader.skip(size)
        tally.add("sections", 1, limits.sections_max)
        if number in (_CORE_CUSTOM, _CORE_START, _CORE_DATA_COUNT):
            continue
        count = Reader(reader.data, body, body + size).u32()
        if number == _CORE_CODE:
            code_bytes = size
        elif number == _CORE_FUNCTION:
            tally.add("functions", count, limits.functions_max)
        elif number == _CORE_GLOBAL:
            tally.add("globals", count, limits.globals_max)
        else:
            tally.add("parts", count, limits.items_max)
    return code_bytes


def _imports(data: Buffer, sections: tuple[Section, ...], tally: _Tally) -> list[str]:
    """Names of what the component imports. Core modules may not be: those imports are ours to make."""
    names: list[str] = []
    for section in sections:
        if section.id is not SectionId.IMPORT:
            continue
        reader = Reader(data, section.body, section.end)
        for _ in range(reader.u32()):
            tally.add("imports", 1, tally.limits.imports_max)
            start = reader.position
            if reader.byte() > 0x01:
                raise Malformed(f"has an import of an unknown form at byte {start}")
            name = reader.name().decode("utf-8", "replace")
            _import_type(reader, name)
            names.append(name)
        if not reader.at_end:
            raise Malformed(f"has a malformed import section at byte {reader.position}")
    return names


def _import_type(reader: Reader, name: str) -> None:
    """Passes over what is imported under `name`."""
    start = reader.position
    match reader.byte():
        case 0x00:
            reader.expect(CORE_MODULE_SORT, "import")
            reader.u32()
            raise _not_offered("core module", name)
        case 0x01 | 0x04 | 0x05:  # a function, a component, an instance: the index of its type
            reader.u32()
        case 0x03:  # a type: equal to another one, or any resource
            if reader.byte() == 0x00:
                reader.u32()
        case 0x02:
            raise _not_offered("value", name)
        case _:
            raise Malformed(f"has an import of an unknown form at byte {start}")


def _not_offered(kind: str, name: str) -> RejectedUpload:
    return RejectedUpload(f"The component imports the {kind} {_printable(name)}, which this host does not offer.")


def _printable(name: str) -> str:
    """A hostile name for a message: bounded, without control or non-ASCII characters."""
    return name[:200].encode("unicode_escape").decode("ascii")
