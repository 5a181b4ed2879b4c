"""The type of a core module: what it imports and exports, in the notation of a component's core types."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from runtime.artifacts.binary import PREAMBLE_BYTES, Buffer, Malformed, Reader, sized, u32

_TYPE, _IMPORT, _FUNCTION, _TABLE, _MEMORY, _GLOBAL, _EXPORT = range(1, 8)
_FUNC, _TABLE_KIND, _MEMORY_KIND, _GLOBAL_KIND = range(4)

_REFERENCE_TYPES = frozenset(b"\x70\x6f")  # funcref, externref
_VALUE_TYPES = frozenset(b"\x7f\x7e\x7d\x7c\x7b") | _REFERENCE_TYPES  # i32, i64, f32, f64, v128
_FUNCTION_TYPE = 0x60
_END = 0x0B

_MODULE_TYPE = 0x50
_IMPORT_DECLARATION, _TYPE_DECLARATION, _EXPORT_DECLARATION = b"\x00", b"\x01", b"\x03"


class NotPlain(Exception):
    """The module's type uses features that `read_interface` does not know (threads, garbage collection, tags)."""


@dataclass(frozen=True)
class ModuleInterface:
    """Declarations as they are encoded: function types in order, imports, exports by name."""

    types: tuple[bytes, ...]
    imports: tuple[tuple[bytes, bytes, bytes], ...]
    """(module, name, encoded type)"""
    exports: dict[bytes, bytes]

    def encode(self, exports: Collection[bytes] | None = None) -> bytes:
        """A core module type that asks for `exports` only, or for all. Modules with more exports have this type too."""
        parts = [_TYPE_DECLARATION + signature for signature in self.types]
        parts += [_IMPORT_DECLARATION + sized(module) + sized(name) + kind for module, name, kind in self.imports]
        parts += [
            _EXPORT_DECLARATION + sized(name) + kind
            for name, kind in self.exports.items()
            if exports is None or name in exports
        ]
        return bytes((_MODULE_TYPE,)) + u32(len(parts)) + b"".join(parts)


def read_interface(data: Buffer, start: int, end: int) -> ModuleInterface:
    """Reads the core module `data[start:end]`. Raises `NotPlain` or `Malformed`."""
    sections = _sections(data, start, end)
    types = _types(sections.get(_TYPE))
    imports: list[tuple[bytes, bytes, bytes]] = []
    kinds: tuple[list[bytes], ...] = ([], [], [], [])
    """The encoded types of functions, tables, memories and globals, by index."""
    for module, name, kind, encoded in _import_entries(sections.get(_IMPORT)):
        imports.append((module, name, bytes((kind,)) + encoded))
        kinds[kind].append(encoded)
    kinds[_FUNC].extend(u32(index) for index in _function_types(sections.get(_FUNCTION)))
    kinds[_TABLE_KIND].extend(_vector(sections.get(_TABLE), _table_type))
    kinds[_MEMORY_KIND].extend(_vector(sections.get(_MEMORY), _limits))
    kinds[_GLOBAL_KIND].extend(_vector(sections.get(_GLOBAL), _defined_global))
    exports: dict[bytes, bytes] = {}
    reader = sections.get(_EXPORT)
    for _ in range(reader.u32() if reader else 0):
        assert reader is not None
        name, kind, index = reader.name(), reader.byte(), reader.u32()
        if kind > _GLOBAL_KIND:
            raise NotPlain
        if index >= len(kinds[kind]):
            raise Malformed("has a core module with an export of something that is not there")
        exports[name] = bytes((kind,)) + kinds[kind][index]
    return ModuleInterface(types, tuple(imports), exports)


def _sections(data: Buffer, start: int, end: int) -> dict[int, Reader]:
    reader = Reader(data, start + PREAMBLE_BYTES, end)
    found: dict[int, Reader] = {}
    while not reader.at_end:
        number, size = reader.byte(), reader.u32()
        body = reader.position
        reader.skip(size)
        if _TYPE <= number <= _EXPORT:
            if number in found:
                raise Malformed("has a core module with the same section twice")
            # A copy, since indexing bytes is several times as fast as indexing a mapped file.
            content = data[body : body + size]
            found[number] = Reader(content, 0, size)
    return found


def _types(reader: Reader | None) -> tuple[bytes, ...]:
    types: list[bytes] = []
    for _ in range(reader.u32() if reader else 0):
        assert reader is not None
        start = reader.position
        if reader.byte() != _FUNCTION_TYPE:
            raise NotPlain
        for _side in ("parameters", "results"):
            if not _VALUE_TYPES.issuperset(reader.take(reader.u32())):
                raise NotPlain
        types.append(_encoded(reader, start))
    return tuple(types)


def _import_entries(reader: Reader | None) -> list[tuple[bytes, bytes, int, bytes]]:
    """(module, name, kind, encoded type)"""
    entries: list[tuple[bytes, bytes, int, bytes]] = []
    for _ in range(reader.u32() if reader else 0):
        assert reader is not None
        module, name, kind = reader.name(), reader.name(), reader.byte()
        match kind:
            case 0:
                encoded = u32(reader.u32())
            case 1:
                encoded = _table_type(reader)
            case 2:
                encoded = _limits(reader)
            case 3:
                encoded = _global_type(reader)
            case _:
                raise NotPlain
        entries.append((module, name, kind, encoded))
    return entries


def _function_types(reader: Reader | None) -> list[int]:
    return [reader.u32() for _ in range(reader.u32())] if reader else []


def _vector(reader: Reader | None, read: Callable[[Reader], bytes]) -> list[bytes]:
    return [read(reader) for _ in range(reader.u32())] if reader else []


def _encoded(reader: Reader, start: int) -> bytes:
    return bytes(reader.data[start : reader.position])


def _table_type(reader: Reader) -> bytes:
    start = reader.position
    if reader.byte() not in _REFERENCE_TYPES:
        raise NotPlain
    _limits(reader)
    return _encoded(reader, start)


def _limits(reader: Reader) -> bytes:
    start = reader.position
    flags = reader.byte()
    if flags > 0x01:
        raise NotPlain
    for _ in range(1 + flags):
        reader.u32()
    return _encoded(reader, start)


def _global_type(reader: Reader) -> bytes:
    encoded = reader.take(2)
    if encoded[0] not in _VALUE_TYPES or encoded[1] > 0x01:
        raise NotPlain
    return encoded


def _defined_global(reader: Reader) -> bytes:
    encoded = _global_type(reader)
    while (opcode := reader.byte()) != _END:
        match opcode:
            case 0x41:  # i32.const
                reader.skip_signed(32)
            case 0x42:  # i64.const
                reader.skip_signed(64)
            case 0x43:  # f32.const
                reader.skip(4)
            case 0x44:  # f64.const
                reader.skip(8)
            case 0x23 | 0xD2:  # global.get, ref.func
                reader.u32()
            case 0xD0:  # ref.null
                reader.byte()
            case 0x6A | 0x6B | 0x6C | 0x7C | 0x7D | 0x7E:  # i32 and i64: add, sub, mul
                pass
            case _:
                raise NotPlain
    return encoded
