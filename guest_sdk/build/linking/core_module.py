"""A core module, taken apart as far as linking needs it.

Source: the core specification, chapter 5.5 (binary format of modules).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from guest_sdk.build.binary import Reader, Unknown, sections

FUNCTION, TABLE, MEMORY, GLOBAL = 0, 1, 2, 3
"""Sorts of what a module imports and exports."""

_FUNCTION_TYPE, _FUNCTION_REFERENCE = 0x60, 0x70
_I32_CONST, _I64_CONST, _I32_ADD, _GLOBAL_GET, _END = 0x41, 0x42, 0x6A, 0x23, 0x0B
_FLOAT_BYTES = {0x43: 4, 0x44: 8}
_ACTIVE, _ACTIVE_IN_TABLE = 0, 2
_NAMES_OF_FUNCTIONS = 1


@dataclass(frozen=True)
class Constant:
    """An initial value. Of i32 it is the sum of `number` and the values of `of_globals`."""

    encoded: bytes
    """The expression without its end."""
    number: int | None
    """None of another type."""
    of_globals: tuple[int, ...] = ()


@dataclass(frozen=True)
class Global:
    type: bytes
    """Value type and mutability."""
    value: Constant


@dataclass(frozen=True)
class Import:
    module: str
    name: str
    sort: int
    type: int | bytes
    """The type's index of a function; what is encoded of another."""


@dataclass(frozen=True)
class Elements:
    """Functions that fill a table from `offset` on."""

    table: int
    offset: Constant
    functions: tuple[int, ...]


@dataclass
class CoreModule:
    """`functions`, `tables`, `memories` and `globals` are those that it defines, after those that it imports."""

    types: list[bytes] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    """Indexes of their types."""
    tables: list[bytes] = field(default_factory=list)
    memories: list[bytes] = field(default_factory=list)
    globals: list[Global] = field(default_factory=list)
    exports: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Sort and index by name."""
    elements: list[Elements] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """The code of each defined function, locals included."""
    data: list[tuple[Constant, bytes]] = field(default_factory=list)
    function_names: dict[int, bytes] = field(default_factory=dict)

    def imported(self, sort: int) -> list[Import]:
        return [one for one in self.imports if one.sort == sort]


def read(component: bytes, start: int, end: int) -> CoreModule:
    """The core module `component[start:end]`. Raises `Unknown` if it has what linking does not know."""
    module = CoreModule()
    for identity, body, stop in sections(component, start, end):
        reader = Reader(component, body)
        if identity == 0:
            _read_custom(module, reader, stop)
            continue
        if identity not in _SECTIONS:
            raise Unknown  # a start function, passive data, exceptions
        for _ in range(reader.u32()):
            _SECTIONS[identity](module, reader)
        if reader.position != stop:
            raise Unknown
    if len(module.bodies) != len(module.functions):
        raise Unknown
    return module


def _read_type(module: CoreModule, reader: Reader) -> None:
    start = reader.position
    if reader.byte() != _FUNCTION_TYPE:
        raise Unknown
    for _ in range(2):
        if any(kind < 0x6F for kind in reader.take(reader.u32())):
            raise Unknown
    module.types.append(reader.data[start : reader.position])


def _read_import(module: CoreModule, reader: Reader) -> None:
    origin, name, sort = reader.name(), reader.name(), reader.byte()
    kind: int | bytes
    if sort == FUNCTION:
        kind = reader.u32()
    elif sort == TABLE:
        kind = _table_type(reader)
    elif sort == MEMORY:
        kind = _limits(reader)
    elif sort == GLOBAL:
        kind = reader.take(2)
    else:
        raise Unknown
    module.imports.append(Import(origin, name, sort, kind))


def _read_function(module: CoreModule, reader: Reader) -> None:
    module.functions.append(reader.u32())


def _read_table(module: CoreModule, reader: Reader) -> None:
    module.tables.append(_table_type(reader))


def _read_memory(module: CoreModule, reader: Reader) -> None:
    module.memories.append(_limits(reader))


def _read_global(module: CoreModule, reader: Reader) -> None:
    module.globals.append(Global(reader.take(2), _constant(reader)))


def _read_export(module: CoreModule, reader: Reader) -> None:
    name, sort = reader.name(), reader.byte()
    module.exports[name] = sort, reader.u32()


def _read_elements(module: CoreModule, reader: Reader) -> None:
    form = reader.u32()
    if form not in (_ACTIVE, _ACTIVE_IN_TABLE):
        raise Unknown
    table = reader.u32() if form == _ACTIVE_IN_TABLE else 0
    offset = _constant(reader)
    if form == _ACTIVE_IN_TABLE and reader.byte() != 0:
        raise Unknown
    module.elements.append(Elements(table, offset, tuple(reader.u32() for _ in range(reader.u32()))))


def _read_body(module: CoreModule, reader: Reader) -> None:
    module.bodies.append(reader.take(reader.u32()))


def _read_data(module: CoreModule, reader: Reader) -> None:
    if reader.u32() != _ACTIVE:
        raise Unknown
    offset = _constant(reader)
    module.data.append((offset, reader.take(reader.u32())))


def _read_custom(module: CoreModule, reader: Reader, stop: int) -> None:
    if reader.name() != "name":
        return
    while reader.position < stop:
        what, size = reader.byte(), reader.u32()
        end = reader.position + size
        if what == _NAMES_OF_FUNCTIONS:
            for _ in range(reader.u32()):
                index = reader.u32()
                module.function_names[index] = reader.take(reader.u32())
        reader.position = end


def _table_type(reader: Reader) -> bytes:
    start = reader.position
    if reader.byte() != _FUNCTION_REFERENCE:
        raise Unknown
    _limits(reader)
    return reader.data[start : reader.position]


def _limits(reader: Reader) -> bytes:
    start = reader.position
    form = reader.byte()
    if form > 0x01:
        raise Unknown  # shared, 64 bits, pages of another size
    for _ in range(form + 1):
        reader.u32()
    return reader.data[start : reader.position]


def _constant(reader: Reader) -> Constant:
    start = reader.position
    number, of_globals, other = 0, [], False
    while (opcode := reader.byte()) != _END:
        if opcode == _I32_CONST:
            number += reader.s32()
        elif opcode == _GLOBAL_GET:
            of_globals.append(reader.u32())
        elif opcode == _I64_CONST:
            other = True
            while reader.byte() >= 0x80:
                pass
        elif opcode in _FLOAT_BYTES:
            other = True
            reader.take(_FLOAT_BYTES[opcode])
        elif opcode != _I32_ADD:
            raise Unknown
    encoded = reader.data[start : reader.position - 1]
    return Constant(encoded, None) if other else Constant(encoded, number & 0xFFFF_FFFF, tuple(of_globals))


_SECTIONS = {
    1: _read_type,
    2: _read_import,
    3: _read_function,
    4: _read_table,
    5: _read_memory,
    6: _read_global,
    7: _read_export,
    9: _read_elements,
    10: _read_body,
    11: _read_data,
}
