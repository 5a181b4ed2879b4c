"""Core modules that are instantiated together, as one.

What is settled when the modules are linked becomes part of the code: a global that nobody sets is a constant, a call
of an import or through a slot of a table that nobody changes is a direct call. Functions that nobody can reach go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from guest_sdk.build.binary import CORE_PREAMBLE, Reader, Unknown, s32, section, sized, u32, vector
from guest_sdk.build.linking.core_module import (
    FUNCTION,
    GLOBAL,
    MEMORY,
    TABLE,
    Constant,
    CoreModule,
    Elements,
)
from guest_sdk.build.linking.instructions import (
    BLOCKS,
    CALL,
    CALL_INDIRECT,
    GLOBAL_GET,
    GLOBAL_SET,
    Use,
    find_uses,
)

EXTERNAL = "host"
"""The module name under which the merged module imports functions; their names are their numbers."""

_I32_CONST, _LOCAL_GET, _END = 0x41, 0x20, 0x0B
_SORTS = (FUNCTION, TABLE, MEMORY, GLOBAL)
_OUTSIDE = -1


class Definition(NamedTuple):
    """A function, table, memory or global: of the module `owner` (its place among those that are merged) or, of an
    `owner` of -1, a function from outside."""

    owner: int
    position: int
    """Among what the module defines of the sort; the number of a function from outside."""


class Exported(NamedTuple):
    """What another of the modules exports."""

    owner: int
    name: str


@dataclass
class Part:
    """A module that is instantiated once. It imports from earlier ones; a number is an outside function's."""

    module: CoreModule
    given: Mapping[tuple[str, str], Exported | int]
    spaces: list[list[Definition]] = field(default_factory=lambda: [[] for _ in _SORTS])
    """By sort and index: what is meant."""


@dataclass(frozen=True)
class Merged:
    module: bytes
    outside: list[int]
    """Numbers of the functions from outside that it imports."""


def merge(parts: Sequence[Part], exports: Mapping[str, Exported]) -> Merged:
    """One core module that does what `parts`, in the order of their instantiation, do together.

    It exports `exports`. Tables among them may change later. Raises `Unknown`.
    """
    merger = _Merger(parts, exports)
    return Merged(merger.module(), merger.outside)


class _Merger:
    def __init__(self, parts: Sequence[Part], exports: Mapping[str, Exported]) -> None:
        self._parts = parts
        self._outside_types: dict[int, bytes] = {}
        for number, part in enumerate(parts):
            self._place(number, part)
        self._exports = {name: self._exported(one) for name, one in exports.items()}
        self._open_tables = {found for sort, found in self._exports.values() if sort == TABLE}
        self._uses: dict[Definition, list[Use]] = {}
        self._resolved: dict[Definition, Definition] = {}
        self._fill_tables()
        self._reach()
        self._number()

    # ---------------------------------------------------------------------------------------- what means what

    def _place(self, number: int, part: Part) -> None:
        module = part.module
        for one in module.imports:
            origin = part.given.get((one.module, one.name))
            if isinstance(origin, Exported):
                sort, definition = self._exported(origin)
            elif origin is not None and isinstance(one.type, int):
                sort, definition = FUNCTION, Definition(_OUTSIDE, origin)
                self._outside_types[origin] = module.types[one.type]
            else:
                raise Unknown
            if sort != one.sort:
                raise Unknown
            part.spaces[sort].append(definition)
        defined = (len(module.functions), len(module.tables), len(module.memories), len(module.globals))
        for sort, count in zip(_SORTS, defined, strict=True):
            part.spaces[sort].extend(Definition(number, position) for position in range(count))

    def _exported(self, one: Exported) -> tuple[int, Definition]:
        part = self._parts[one.owner]
        try:
            sort, index = part.module.exports[one.name]
            return sort, part.spaces[sort][index]
        except (KeyError, IndexError):
            raise Unknown from None

    def _function_type(self, function: Definition) -> bytes:
        if function.owner == _OUTSIDE:
            return self._outside_types[function.position]
        module = self._parts[function.owner].module
        return module.types[module.functions[function.position]]

    def _number_of(self, part: Part, constant: Constant) -> int:
        """The value of a constant of i32. Raises `Unknown` for another."""
        if constant.number is None:
            raise Unknown
        value = constant.number
        for index in constant.of_globals:
            owner, position = part.spaces[GLOBAL][index]
            value += self._number_of(self._parts[owner], self._parts[owner].module.globals[position].value)
        return value & 0xFFFF_FFFF

    def _value(self, part: Part, constant: Constant) -> bytes:
        """The instruction that gives the value of a constant."""
        return constant.encoded if constant.number is None else _i32(self._number_of(part, constant))

    # ----------------------------------------------------------------------------------- what is used, and how

    def _elements(self) -> Iterator[tuple[Part, Elements]]:
        for part in self._parts:
            for elements in part.module.elements:
                yield part, elements

    def _fill_tables(self) -> None:
        self._slots: dict[tuple[Definition, int], Definition] = {}
        for part, elements in self._elements():
            table = part.spaces[TABLE][elements.table]
            offset = self._number_of(part, elements.offset)
            for slot, function in enumerate(elements.functions, offset):
                self._slots[table, slot] = part.spaces[FUNCTION][function]

    def _target(self, function: Definition) -> Definition:
        """What is called when `function` is: another one, if all it does is to call that through a table."""
        found = self._resolved.get(function)
        if found is None:
            behind = self._behind(function)
            found = self._resolved[function] = function if behind is None else self._target(behind)
        return found

    def _behind(self, function: Definition) -> Definition | None:
        if function.owner == _OUTSIDE:
            return None
        part = self._parts[function.owner]
        body = part.module.bodies[function.position]
        kind = self._function_type(function)
        head = b"\x00" + b"".join(bytes((_LOCAL_GET,)) + u32(i) for i in range(_parameters(kind)))
        if not body.startswith(head + bytes((_I32_CONST,))):
            return None
        reader = Reader(body, len(head) + 1)
        slot = reader.s32()
        if reader.byte() != CALL_INDIRECT or part.module.types[reader.u32()] != kind:
            return None
        table = part.spaces[TABLE][reader.u32()]
        behind = self._slots.get((table, slot))
        if body[reader.position :] != bytes((_END,)) or table in self._open_tables or behind is None:
            return None
        return behind if behind != function and self._function_type(behind) == kind else None

    def _reach(self) -> None:
        """Finds the functions that can be called, and the globals that they set."""
        self._set: set[Definition] = set()
        waiting = [found for sort, found in self._exports.values() if sort == FUNCTION]
        waiting += self._slots.values()
        reached = set(waiting)
        while waiting:
            function = waiting.pop()
            if function.owner == _OUTSIDE:
                continue
            spaces = self._parts[function.owner].spaces
            uses = self._uses[function] = find_uses(self._parts[function.owner].module.bodies[function.position])
            for use in uses:
                if use.opcode == GLOBAL_SET:
                    self._set.add(spaces[GLOBAL][use.index])
                elif use.opcode == CALL:
                    target = self._target(spaces[FUNCTION][use.index])
                    if target not in reached:
                        reached.add(target)
                        waiting.append(target)
        self.outside = sorted(number for owner, number in reached if owner == _OUTSIDE)
        self._functions = sorted(function for function in reached if function.owner != _OUTSIDE)

    # --------------------------------------------------------------------------------------------- new indexes

    def _number(self) -> None:
        self._types: dict[bytes, int] = {}
        self._index: dict[int, dict[Definition, int]] = {sort: {} for sort in _SORTS}
        functions = [Definition(_OUTSIDE, number) for number in self.outside] + self._functions
        self._index[FUNCTION] = {function: index for index, function in enumerate(functions)}
        for owner, part in enumerate(self._parts):
            module = part.module
            for sort, items in ((TABLE, module.tables), (MEMORY, module.memories)):
                for position in range(len(items)):
                    self._index[sort][Definition(owner, position)] = len(self._index[sort])
            for position in range(len(module.globals)):
                definition = Definition(owner, position)
                if definition in self._set:
                    self._index[GLOBAL][definition] = len(self._index[GLOBAL])
        if len(self._index[MEMORY]) != 1:
            raise Unknown  # the code's instructions are taken to mean memory 0

    def _type(self, encoded: bytes) -> int:
        return self._types.setdefault(encoded, len(self._types))

    # ------------------------------------------------------------------------------------------------- output

    def module(self) -> bytes:
        bodies = [sized(self._body(function)) for function in self._functions]
        kinds = [u32(self._type(self._function_type(function))) for function in self._functions]
        imports = [
            sized(EXTERNAL.encode()) + sized(str(number).encode()) + b"\x00" + u32(self._type(kind))
            for number, kind in ((number, self._outside_types[number]) for number in self.outside)
        ]
        exports = [
            sized(name.encode()) + bytes((sort,)) + u32(self._index[sort][definition])
            for name, (sort, definition) in self._exports.items()
        ]
        return CORE_PREAMBLE + b"".join(
            (
                section(1, vector(self._types)),
                section(2, vector(imports)),
                section(3, vector(kinds)),
                section(4, vector(one for part in self._parts for one in part.module.tables)),
                section(5, vector(one for part in self._parts for one in part.module.memories)),
                section(6, vector(self._globals())),
                section(7, vector(exports)),
                section(9, vector(self._element_segments())),
                section(10, vector(bodies)),
                section(11, vector(self._data_segments())),
                section(0, sized(b"name") + b"\x01" + sized(vector(self._names()))),
            )
        )

    def _globals(self) -> Iterator[bytes]:
        for owner, position in self._index[GLOBAL]:
            part = self._parts[owner]
            one = part.module.globals[position]
            yield one.type + self._value(part, one.value) + bytes((_END,))

    def _element_segments(self) -> Iterator[bytes]:
        for part, elements in self._elements():
            table = self._index[TABLE][part.spaces[TABLE][elements.table]]
            offset = _i32(self._number_of(part, elements.offset)) + bytes((_END,))
            functions = vector(u32(self._index[FUNCTION][part.spaces[FUNCTION][one]]) for one in elements.functions)
            yield b"\x02" + u32(table) + offset + b"\x00" + functions

    def _data_segments(self) -> Iterator[bytes]:
        for part in self._parts:
            for offset, content in part.module.data:
                yield b"\x00" + _i32(self._number_of(part, offset)) + bytes((_END,)) + sized(content)

    def _names(self) -> Iterator[bytes]:
        """For each function that has one. What the code of a crash was is told by it."""
        for function, index in self._index[FUNCTION].items():
            if function.owner == _OUTSIDE:
                continue
            module = self._parts[function.owner].module
            name = module.function_names.get(len(module.imported(FUNCTION)) + function.position)
            if name is not None:
                yield u32(index) + sized(name)

    def _body(self, function: Definition) -> bytes:
        part = self._parts[function.owner]
        body = part.module.bodies[function.position]
        pieces: list[bytes] = []
        position = 0
        for use in self._uses[function]:
            pieces.append(body[position : use.start])
            pieces.append(self._rewritten(part, use))
            position = use.end
        pieces.append(body[position:])
        return b"".join(pieces)

    def _rewritten(self, part: Part, use: Use) -> bytes:
        opcode = bytes((use.opcode,))
        if use.opcode == CALL:
            return opcode + u32(self._index[FUNCTION][self._target(part.spaces[FUNCTION][use.index])])
        if use.opcode == CALL_INDIRECT:
            kind = self._type(part.module.types[use.index])
            return opcode + u32(kind) + u32(self._index[TABLE][part.spaces[TABLE][use.table]])
        if use.opcode in BLOCKS:
            # A type's index is signed here: 33 bits.
            return opcode + s32(self._type(part.module.types[use.index]))
        definition = part.spaces[GLOBAL][use.index]
        index = self._index[GLOBAL].get(definition)
        if use.opcode == GLOBAL_GET and index is None:
            owner = self._parts[definition.owner]
            return self._value(owner, owner.module.globals[definition.position].value)
        if index is None:
            raise Unknown
        return opcode + u32(index)


def _i32(value: int) -> bytes:
    return bytes((_I32_CONST,)) + s32(value)


def _parameters(kind: bytes) -> int:
    """How many a function type has."""
    return Reader(kind, 1).u32()
