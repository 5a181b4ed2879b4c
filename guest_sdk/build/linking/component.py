"""A component whose core modules are linked into one.

Of a component, everything that is about core modules, core instances and core functions is written anew, in one piece,
where the last core instance stood:

1. the merged module, and those that cannot be merged (see below);
2. the host's functions that need no memory of the guest's (they drop resources, mostly), and the instance of the
   merged module, which imports them;
3. the host's functions that need the guest's memory, and the instances of the modules that import those:
   componentize-py puts such functions into a table, through which the others call them.

Component types, imports, nested components, lifted functions and exports stay as they are, but for the indexes of core
functions and memories.

Source: https://github.com/WebAssembly/component-model (design/mvp/Binary.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from guest_sdk.build.binary import (
    ALIAS,
    CANON,
    CORE_INSTANCE,
    CORE_MODULE,
    LIFT,
    LOWER,
    MEMORY_OPTION,
    PREAMBLE_BYTES,
    Canon,
    CoreInstance,
    Options,
    Reader,
    Unknown,
    instantiation,
    read_canon,
    read_core_instance,
    section,
    sections,
    sized,
    u32,
    vector,
)
from guest_sdk.build.errors import BuildError
from guest_sdk.build.linking import core_module
from guest_sdk.build.linking.core_module import FUNCTION, GLOBAL, MEMORY, TABLE, CoreModule
from guest_sdk.build.linking.merge import EXTERNAL, Exported, Merged, Part, merge

_CUSTOM, _CORE_TYPE, _START = 0, 3, 9
_CORE, _OF_CORE_INSTANCE = 0x00, 0x01
_COMPONENT_NAMES = b"\x0ecomponent-name"


@dataclass(frozen=True)
class _Alias:
    """A core item: what a core instance exports."""

    instance: int
    name: str


@dataclass(frozen=True)
class _HostFunction:
    """A core item: a function that the host gives, as it is declared. `options` refer to old indexes."""

    number: int
    """Its old index."""
    head: bytes
    options: Options | None
    """None where there can be none."""

    @property
    def needs_guest(self) -> bool:
        return any(index is not None for _, index in self.options or ())


_Item = _Alias | _HostFunction


@dataclass
class _Outline:
    """A component's core part, and the sections around it in their order."""

    modules: list[tuple[int, int]] = field(default_factory=list)
    instances: list[CoreInstance] = field(default_factory=list)
    items: dict[int, list[_Item]] = field(default_factory=lambda: {FUNCTION: [], TABLE: [], MEMORY: [], GLOBAL: []})
    """Core items by sort and index."""
    kept: list[tuple[int, bytes | list[Canon]]] = field(default_factory=list)
    """Identities and contents of the other sections; of functions, those that are lifted for the host."""
    place: int = 0
    """How many of `kept` come before the last core instance."""


def link(component: bytes, exported: Sequence[str]) -> bytes:
    """The component with one core module for all that can be merged; it exports `exported`, which have to be there.

    Raises `BuildError` if the component is not put together as componentize-py does.
    """
    try:
        return _Linker(component, _outline(component), exported).component()
    except (Unknown, IndexError, KeyError, StopIteration):
        raise BuildError("componentize-py has made a component that this build cannot link.") from None


# ------------------------------------------------------------------------------------------------------- reading


def _outline(component: bytes) -> _Outline:
    found = _Outline()
    for identity, body, end in sections(component, 0, len(component)):
        reader = Reader(component, body)
        if identity == CORE_MODULE:
            found.modules.append((body, end))
        elif identity == CORE_INSTANCE:
            found.instances.extend(read_core_instance(reader) for _ in range(reader.u32()))
            found.place = len(found.kept)
        elif identity == ALIAS:
            aliases = [alias for _ in range(reader.u32()) if (alias := _alias(found, reader)) is not None]
            if aliases:
                found.kept.append((ALIAS, vector(aliases)))
        elif identity == CANON:
            functions = [read_canon(reader) for _ in range(reader.u32())]
            for one in functions:
                _note_core_function(found, one)
            if lifts := [one for one in functions if one.kind == LIFT]:
                found.kept.append((CANON, lifts))
        elif identity in (_CORE_TYPE, _START):
            raise Unknown
        elif identity != _CUSTOM or not component.startswith(_COMPONENT_NAMES, body):
            # Names of core functions would name others now.
            found.kept.append((identity, component[body:end]))
    return found


def _alias(found: _Outline, reader: Reader) -> bytes | None:
    """An alias that is not of a core item; takes note of one that is."""
    start = reader.position
    sort = reader.sort()
    kind = reader.byte()
    if sort[0] != _CORE:
        reader.u32()
        if kind == 0x00:
            reader.name()
        else:
            reader.u32()
        return reader.data[start : reader.position]
    if kind != _OF_CORE_INSTANCE:
        raise Unknown
    instance = reader.u32()
    found.items[sort[1]].append(_Alias(instance, reader.name()))
    return None


def _note_core_function(found: _Outline, one: Canon) -> None:
    functions = found.items[FUNCTION]
    if one.kind == LOWER:
        functions.append(_HostFunction(len(functions), bytes((LOWER, 0x00)) + u32(one.index), one.options))
    elif one.kind != LIFT:
        functions.append(_HostFunction(len(functions), bytes((one.kind,)) + u32(one.index), None))


# ------------------------------------------------------------------------------------------------------- writing


class _Linker:
    def __init__(self, component: bytes, outline: _Outline, exported: Sequence[str]) -> None:
        self._component = component
        self._outline = outline
        self._exports: dict[_Alias, str] = {}
        """What the merged module has to export, and as what."""
        self._modules: dict[int, CoreModule] = {}
        self._imports: dict[int, dict[tuple[str, str], tuple[int, _Item]]] = {}
        """Of each instance of a module: sort and origin by what it imports."""
        self._places: dict[int, int] = {}
        """Of each instance that is merged: its place among those."""
        self._apart: list[int] = []
        """Instances whose modules cannot be merged."""
        self._divide()
        for name in exported:
            self._export(next(_Alias(i, name) for i in self._places if name in self._modules[i].exports))
        self._needed = self._find_needed()
        merged = self._merge()
        self._host = sorted(
            {
                *merged.outside,
                *(one.number for one in self._needed if isinstance(one, _HostFunction) and not one.needs_guest),
            }
        )
        self._indexes = self._number()
        self._block = self._written(merged.module)

    def component(self) -> bytes:
        kept = [
            section(identity, content if isinstance(content, bytes) else vector(map(self._lift, content)))
            for identity, content in self._outline.kept
        ]
        place = self._outline.place
        return self._component[:PREAMBLE_BYTES] + b"".join((*kept[:place], self._block, *kept[place:]))

    def _divide(self) -> None:
        """Decides which instances are merged: those that need nothing that needs the memory of one of them."""
        used: set[int] = set()
        for index, instance in enumerate(self._outline.instances):
            if instance.module is None:
                continue
            module = core_module.read(self._component, *self._outline.modules[instance.module])
            if instance.module in used:
                raise Unknown
            used.add(instance.module)
            self._modules[index] = module
            self._imports[index] = {
                (one.module, one.name): (one.sort, self._origin(instance.given[one.module], one.name))
                for one in module.imports
            }
            if all(self._is_early(item) for _, item in self._imports[index].values()):
                self._places[index] = len(self._places)
            else:
                self._apart.append(index)

    def _origin(self, instance: int, name: str) -> _Item:
        """What is behind an export of a core instance."""
        found = self._outline.instances[instance]
        if found.module is not None:
            return _Alias(instance, name)
        sort, index = found.items[name]
        return self._item(sort, index)

    def _item(self, sort: int, index: int) -> _Item:
        item = self._outline.items[sort][index]
        return self._origin(item.instance, item.name) if isinstance(item, _Alias) else item

    def _is_early(self, item: _Item) -> bool:
        return item.instance in self._places if isinstance(item, _Alias) else not item.needs_guest

    def _export(self, alias: _Alias) -> None:
        if alias not in self._exports:
            taken = alias.name in self._exports.values()
            self._exports[alias] = f"{alias.name}#{self._places[alias.instance]}" if taken else alias.name

    def _find_needed(self) -> dict[_Item, int]:
        """The core items, with their sorts, that are used outside of the merged module, which exports its own."""
        needed: dict[_Item, int] = {}

        def need(sort: int, item: _Item) -> None:
            needed[item] = sort
            if isinstance(item, _Alias):
                self._export(item)
            else:
                need_options(item.options or ())

        def need_options(options: Options) -> None:
            for option, index in options:
                if index is not None:
                    sort = MEMORY if option == MEMORY_OPTION else FUNCTION
                    need(sort, self._item(sort, index))

        for instance in self._apart:
            for sort, item in self._imports[instance].values():
                need(sort, item)
        for _, content in self._outline.kept:
            for lift in content if not isinstance(content, bytes) else ():
                need(FUNCTION, self._item(FUNCTION, lift.index))
                need_options(lift.options)
        return needed

    def _merge(self) -> Merged:
        parts = []
        for instance in self._places:
            given = {
                name: Exported(self._places[item.instance], item.name) if isinstance(item, _Alias) else item.number
                for name, (_, item) in self._imports[instance].items()
            }
            parts.append(Part(self._modules[instance], given))
        exports = {name: Exported(self._places[one.instance], one.name) for one, name in self._exports.items()}
        return merge(parts, exports)

    def _number(self) -> dict[_Item, int]:
        """New indexes of core items: early host functions, the merged module's exports, late host functions."""
        indexes: dict[_Item, int] = {self._outline.items[FUNCTION][old]: new for new, old in enumerate(self._host)}
        counts = {FUNCTION: len(indexes), TABLE: 0, MEMORY: 0, GLOBAL: 0}
        for late in (False, True):
            for item, sort in self._needed.items():
                if item not in indexes and isinstance(item, _HostFunction) == late:
                    indexes[item] = counts[sort]
                    counts[sort] += 1
        return indexes

    def _written(self, merged: bytes) -> bytes:
        outline = self._outline
        host_functions = [item for item in outline.items[FUNCTION] if isinstance(item, _HostFunction)]
        early = [item for item in host_functions if item.number in self._host]
        aliases = [(sort, item) for item, sort in self._needed.items() if isinstance(item, _Alias)]
        late = [item for item in self._needed if isinstance(item, _HostFunction) and item.needs_guest]
        host = _put_together({str(old): (FUNCTION, new) for new, old in enumerate(self._host)})
        instances = [host, instantiation(0, {EXTERNAL: 0})]
        apart: list[bytes] = []
        modules = [merged]
        for index in self._apart:
            apart.extend(self._instance_apart(index, len(modules), len(instances) + len(apart)))
            start, end = outline.modules[outline.instances[index].module or 0]
            modules.append(self._component[start:end])
        return b"".join(
            (
                *(section(CORE_MODULE, module) for module in modules),
                section(CANON, vector(self._declared(one) for one in early)),
                section(CORE_INSTANCE, vector(instances)),
                section(ALIAS, vector(_alias_of(sort, 1, self._exports[one]) for sort, one in aliases)),
                section(CANON, vector(self._declared(one) for one in late)),
                section(CORE_INSTANCE, vector(apart)),
            )
        )

    def _instance_apart(self, index: int, module: int, first: int) -> Iterator[bytes]:
        """What an instance imports from, put together as the core instances from `first` on; and the instance."""
        given: dict[str, int] = {}
        for origin in self._outline.instances[index].given:
            items = {
                name: (sort, self._indexes[item])
                for (source, name), (sort, item) in self._imports[index].items()
                if source == origin
            }
            given[origin] = first + len(given)
            yield _put_together(items)
        yield instantiation(module, given)

    def _declared(self, function: _HostFunction) -> bytes:
        return function.head + (b"" if function.options is None else self._options(function.options))

    def _lift(self, lift: Canon) -> bytes:
        assert lift.type is not None
        function = self._indexes[self._item(FUNCTION, lift.index)]
        return bytes((LIFT, 0x00)) + u32(function) + self._options(lift.options) + u32(lift.type)

    def _options(self, options: Options) -> bytes:
        encoded = []
        for option, index in options:
            item = None if index is None else self._item(MEMORY if option == MEMORY_OPTION else FUNCTION, index)
            encoded.append(bytes((option,)) + (b"" if item is None else u32(self._indexes[item])))
        return vector(encoded)


def _put_together(items: Mapping[str, tuple[int, int]]) -> bytes:
    return b"\x01" + vector(sized(name.encode()) + bytes((sort,)) + u32(index) for name, (sort, index) in items.items())


def _alias_of(sort: int, instance: int, name: str) -> bytes:
    return bytes((_CORE, sort, _OF_CORE_INSTANCE)) + u32(instance) + sized(name.encode())
