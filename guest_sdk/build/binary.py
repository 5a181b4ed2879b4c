"""What the build has to know of the component binary format: it adds to a component that componentize-py has made.

Sources: https://github.com/WebAssembly/component-model (design/mvp/Binary.md) and the core specification's chapter 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from guest_sdk.build.errors import BuildError

PREAMBLE_BYTES = 8
CORE_PREAMBLE = b"\0asm\x01\0\0\0"

CORE_MODULE, CORE_INSTANCE, ALIAS, TYPE, CANON, IMPORT, EXPORT = 1, 2, 6, 7, 8, 10, 11
"""Sections of a component."""

_CORE_EXPORT = 7

CORE_FUNCTION_SORT, CORE_MEMORY_SORT = b"\x00\x00", b"\x00\x02"
FUNCTION_SORT = b"\x01"

LIFT, LOWER, RESOURCES = 0x00, 0x01, (0x02, 0x03, 0x04)
"""What a component makes functions of: core functions, functions, and types of resources."""

MEMORY_OPTION = 0x03
_ENCODING_OPTIONS, _FUNCTION_OPTIONS = (0x00, 0x01, 0x02), (0x04, 0x05)

_OF_MODULE, _INSTANCE_SORT = 0x00, 0x12

_EXTERN_SORTS = {0x00: b"\x00\x11", 0x01: FUNCTION_SORT, 0x03: b"\x03", 0x04: b"\x04", 0x05: b"\x05"}


class Unknown(Exception):
    """Something that the build does not read."""


def u32(value: int) -> bytes:
    """Unsigned LEB128."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def s32(value: int) -> bytes:
    """A 32-bit number, given unsigned, as signed LEB128."""
    value -= (value & 0x8000_0000) << 1
    encoded = bytearray()
    while not -0x40 <= value < 0x40:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value & 0x7F)
    return bytes(encoded)


def sized(content: bytes) -> bytes:
    return u32(len(content)) + content


def vector(items: Iterable[bytes]) -> bytes:
    listed = list(items)
    return u32(len(listed)) + b"".join(listed)


def section(identity: int, content: bytes) -> bytes:
    return bytes((identity,)) + sized(content)


def instantiation(module: int, given: Mapping[str, int]) -> bytes:
    """A core instance of a module that imports from other core instances, by name."""
    sort = bytes((_INSTANCE_SORT,))
    arguments = vector(sized(name.encode()) + sort + u32(instance) for name, instance in given.items())
    return bytes((_OF_MODULE,)) + u32(module) + arguments


class Reader:
    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position

    def byte(self) -> int:
        self.position += 1
        return self.data[self.position - 1]

    def u32(self) -> int:
        value = shift = 0
        while (byte := self.byte()) >= 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def s32(self) -> int:
        """A signed LEB128 number of 32 bits, as unsigned."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (value - ((byte & 0x40) << shift - 6)) & 0xFFFF_FFFF

    def take(self, size: int) -> bytes:
        self.position += size
        return self.data[self.position - size : self.position]

    def name(self) -> str:
        return self.take(self.u32()).decode()

    def sort(self) -> bytes:
        first = self.byte()
        return bytes((first, self.byte())) if first == 0x00 else bytes((first,))


@dataclass(frozen=True)
class CoreInstance:
    """A core instance: of a module, with the instances that it imports from, or put together from core items."""

    module: int | None
    given: Mapping[str, int] = field(default_factory=dict)
    items: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Sort and index by name."""


Options = tuple[tuple[int, int | None], ...]
"""Canonical options and the index that each has, if it has one."""


@dataclass(frozen=True)
class Canon:
    """A function made of another one or for a type of resources. `index`: of what it is made."""

    kind: int
    index: int
    options: Options = ()
    type: int | None = None
    """Of a lifted function."""


@dataclass(frozen=True)
class Layout:
    """What a component defines at its top level, as far as one has to know it to define more."""

    modules: tuple[tuple[int, int], ...]
    """Where core modules begin and end."""
    instances: tuple[int | None, ...]
    """For each core instance the index of its module; None where it is put together from others' exports."""
    defined: Counter[bytes]
    """How many items of each sort there are: functions, types, core functions, core memories …"""

    def exporter(self, component: bytes, name: str) -> int:
        """The core instance of the first module that exports `name`. Raises `BuildError`."""
        for index, module in enumerate(self.instances):
            if module is not None and name in core_exports(component, *self.modules[module]):
                return index
        raise BuildError(f"componentize-py has laid the component out in a new way: nothing exports {name}.")


def sections(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(identity, begin and end of the content) of each section of the component or core module `data[start:end]`."""
    reader = Reader(data, start + PREAMBLE_BYTES)
    while reader.position < end:
        identity, size = reader.byte(), reader.u32()
        body = reader.position
        yield identity, body, body + size
        reader.position = body + size


def read_layout(component: bytes) -> Layout:
    """Raises `BuildError` if the component uses what is not known here."""
    modules: list[tuple[int, int]] = []
    instances: list[int | None] = []
    defined: Counter[bytes] = Counter()
    try:
        for identity, body, end in sections(component, 0, len(component)):
            reader = Reader(component, body)
            if identity == CORE_MODULE:
                modules.append((body, end))
            elif identity == TYPE:
                defined[b"\x03"] += reader.u32()
            elif identity in _ITEMS:
                for _ in range(reader.u32()):
                    defined[_ITEMS[identity](reader, instances)] += 1
                if reader.position != end:
                    raise Unknown
    except (Unknown, IndexError, KeyError):
        raise BuildError("componentize-py has made a component that this build does not understand.") from None
    return Layout(tuple(modules), tuple(instances), defined)


def core_exports(component: bytes, start: int, end: int) -> set[str]:
    """Names of what the core module at that place exports."""
    names: set[str] = set()
    for identity, body, _ in sections(component, start, end):
        if identity == _CORE_EXPORT:
            reader = Reader(component, body)
            for _ in range(reader.u32()):
                names.add(reader.name())
                reader.byte()
                reader.u32()
    return names


def read_core_instance(reader: Reader) -> CoreInstance:
    """Raises `Unknown`, as what follows does."""
    if reader.byte() != _OF_MODULE:
        items = {}
        for _ in range(reader.u32()):
            name = reader.name()
            items[name] = reader.byte(), reader.u32()
        return CoreInstance(None, items=items)
    module = reader.u32()
    given = {}
    for _ in range(reader.u32()):
        name = reader.name()
        if reader.byte() != _INSTANCE_SORT:
            raise Unknown
        given[name] = reader.u32()
    return CoreInstance(module, given=given)


def read_canon(reader: Reader) -> Canon:
    kind = reader.byte()
    if kind in RESOURCES:
        return Canon(kind, reader.u32())
    if kind not in (LIFT, LOWER) or reader.byte() != 0x00:
        raise Unknown
    index, options = reader.u32(), _read_options(reader)
    return Canon(kind, index, options, reader.u32() if kind == LIFT else None)


def _read_options(reader: Reader) -> Options:
    found: list[tuple[int, int | None]] = []
    for _ in range(reader.u32()):
        option = reader.byte()
        if option == MEMORY_OPTION or option in _FUNCTION_OPTIONS:
            found.append((option, reader.u32()))
        elif option in _ENCODING_OPTIONS:
            found.append((option, None))
        else:
            raise Unknown
    return tuple(found)


def _core_instance(reader: Reader, instances: list[int | None]) -> bytes:
    instances.append(read_core_instance(reader).module)
    return bytes((0x00, _INSTANCE_SORT))


def _alias(reader: Reader, _instances: list[int | None]) -> bytes:
    sort = reader.sort()
    kind = reader.byte()
    reader.u32()
    if kind in (0x00, 0x01):
        reader.name()
    else:
        reader.u32()
    return sort


def _canon(reader: Reader, _instances: list[int | None]) -> bytes:
    return FUNCTION_SORT if read_canon(reader).kind == LIFT else CORE_FUNCTION_SORT


def _import(reader: Reader, _instances: list[int | None]) -> bytes:
    if reader.byte() > 0x01:
        raise Unknown
    reader.name()
    return _extern(reader)


def _export(reader: Reader, _instances: list[int | None]) -> bytes:
    if reader.byte() > 0x01:
        raise Unknown
    reader.name()
    sort = reader.sort()
    reader.u32()
    if reader.byte():
        _extern(reader)
    return sort


def _extern(reader: Reader) -> bytes:
    kind = reader.byte()
    if kind == 0x00:
        reader.byte()
    if kind != 0x03 or reader.byte() == 0x00:
        reader.u32()
    return _EXTERN_SORTS[kind]


_ITEMS = {CORE_INSTANCE: _core_instance, ALIAS: _alias, CANON: _canon, IMPORT: _import, EXPORT: _export}
