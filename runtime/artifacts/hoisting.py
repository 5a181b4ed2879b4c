"""Taking the core modules that many components share out of a component.

Of a Python worker's 24 MB, CPython, its libraries and the memory with which they begin are byte for byte the same in
every worker of one SDK (see `guest_sdk.build.snapshot`); what differs is a small module that changes this memory. Large
modules become imports, named by their content, so that each is compiled, stored and mapped once:

    (core module M ...)   ->   (core type T (module ...)) (import "cloister-module-x<sha256>" (core module M (type T)))

Both forms take the next index of a core module, so that nothing else in the component changes. wasmtime compares the
module with T whenever the component is instantiated; T names only the exports that the component uses, because that
comparison costs time for each of them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from runtime.artifacts.binary import Buffer, Malformed, Reader, sized, u32
from runtime.artifacts.component import CORE_MODULE_SORT, CORE_SORT, Outline, Section, SectionId
from runtime.artifacts.core_module import ModuleInterface, NotPlain, read_interface

CODE_BYTES_MIN = 64 * 1024
"""A module with at least so much code is hoisted: code is what is dear to compile."""

DATA_BYTES_MIN = 4 * 1024 * 1024
"""A module of so many bytes is hoisted whatever is in it: a base's memory is all data. The changes that a worker makes
to it are fewer bytes: nobody shares them, and each module that is hoisted makes instantiation dearer."""

HOISTED_MAX = 16
"""How many modules of one component are hoisted."""

COPY_BYTES = 1024 * 1024

_CORE_INSTANCE_SORT = 0x12

NAME_PREFIX = "cloister-module-x"

OWN_MODULE = "cloister-own-module"
"""The name under which a component imports what it changes of its base's memory. It does not tell the content: so the
components of all workers of one SDK are the same but for this module, and share their machine code too."""


def import_name(sha256: str) -> str:
    """The name under which a component imports a hoisted module. Uploads that import core modules are refused."""
    return NAME_PREFIX + sha256


@dataclass(frozen=True)
class HoistedModule:
    """A core module's place in the upload, its content's SHA-256 (hex), and its type, encoded."""

    section: Section
    sha256: str
    type: bytes
    own: bool = False
    """Whether it is what `OWN_MODULE` stands for."""

    @property
    def name(self) -> str:
        return OWN_MODULE if self.own else import_name(self.sha256)


def find_hoisted(data: Buffer, outline: Outline) -> tuple[HoistedModule, ...]:
    """The modules to hoist; empty where the component uses what this rewriting does not know."""
    if any(section.id is SectionId.CORE_TYPE for section in outline.sections):
        return ()  # new core types would shift the indexes of these
    modules = [section for section in outline.sections if section.id is SectionId.CORE_MODULE]
    found: dict[str, HoistedModule] = {}
    try:
        interfaces = _Interfaces(data, modules)
        used = _used_exports(data, outline, interfaces)
        for index, section in enumerate(modules):
            own = index == len(modules) - 1 and _is_own(interfaces[index])
            large = section.code_bytes >= CODE_BYTES_MIN or section.end - section.body >= DATA_BYTES_MIN
            if not (large or own) or len(found) == HOISTED_MAX:
                continue
            sha256 = digest(data, section.body, section.end)
            if sha256 not in found:  # an import's name must be unique: a second copy stays where it is
                kind = interfaces[index].encode(None if used is None else used[index])
                found[sha256] = HoistedModule(section, sha256, kind, own)
    except (NotPlain, Malformed):
        return ()  # whatever is wrong, wasmtime's validator says it better
    return tuple(found.values())


def _is_own(interface: ModuleInterface) -> bool:
    """Whether a component's last module can do nothing but change a memory, as the SDK's build makes it."""
    return not interface.exports and bool(interface.imports) and all(kind[0] == 2 for _, _, kind in interface.imports)


def write_rewritten(data: Buffer, hoisted: tuple[HoistedModule, ...], target: BinaryIO) -> None:
    """Writes the component with imports in place of `hoisted`."""
    position = 0
    for index, module in enumerate(sorted(hoisted, key=lambda module: module.section.start)):
        copy(data, position, module.section.start, target)
        imported = b"\x00" + sized(module.name.encode()) + bytes((CORE_SORT, CORE_MODULE_SORT)) + u32(index)
        for identity, content in ((SectionId.CORE_TYPE, module.type), (SectionId.IMPORT, imported)):
            target.write(bytes((identity,)) + sized(u32(1) + content))
        position = module.section.end
    copy(data, position, len(data), target)


def copy(data: Buffer, start: int, end: int, target: BinaryIO) -> None:
    for position in range(start, end, COPY_BYTES):
        target.write(data[position : min(position + COPY_BYTES, end)])


def digest(data: Buffer, start: int, end: int) -> str:
    """SHA-256 of a part, hex."""
    state = hashlib.sha256()
    for position in range(start, end, COPY_BYTES):
        state.update(data[position : min(position + COPY_BYTES, end)])
    return state.hexdigest()


class _Interfaces:
    """Types of a component's core modules, read when they are asked for."""

    def __init__(self, data: Buffer, modules: list[Section]) -> None:
        self._data = data
        self._modules = modules
        self._read: dict[int, ModuleInterface] = {}

    def __getitem__(self, index: int) -> ModuleInterface:
        found = self._read.get(index)
        if found is None:
            if index >= len(self._modules):
                raise Malformed("has an instance of a core module that is not there")
            section = self._modules[index]
            found = self._read[index] = read_interface(self._data, section.body, section.end)
        return found


def _used_exports(data: Buffer, outline: Outline, interfaces: _Interfaces) -> Mapping[int, set[bytes]] | None:
    """The exports of each core module that the component uses; None if that cannot be told.

    An export that a nested component uses is not seen here; then the rewritten component does not validate, and the
    upload is compiled as it is.
    """
    instantiated: list[int | None] = []
    """By core instance: the index of its module, or None for one that is put together from exports of others."""
    used: defaultdict[int, set[bytes]] = defaultdict(set)

    def note(instance: int, names: set[bytes]) -> None:
        if instance >= len(instantiated):
            raise Malformed("uses a core instance that is not there")
        module = instantiated[instance]
        if module is not None:
            used[module] |= names

    for section in outline.sections:
        reader = Reader(data, section.body, section.end)
        if section.id is SectionId.CORE_INSTANCE:
            for _ in range(reader.u32()):
                module, arguments = _core_instance(reader)
                instantiated.append(module)
                for name, instance in arguments:
                    assert module is not None
                    wanted = {member for source, member, _ in interfaces[module].imports if source == name}
                    note(instance, wanted)
        elif section.id is SectionId.ALIAS:
            for _ in range(reader.u32()):
                sort = reader.byte()
                core_sort = reader.byte() if sort == CORE_SORT else None
                if core_sort == CORE_MODULE_SORT:
                    return None  # another way to get a core module: which index is which is not known here
                match reader.byte():
                    case 0x00:  # an export of an instance
                        reader.u32()
                        reader.name()
                    case 0x01:  # an export of a core instance
                        instance = reader.u32()
                        note(instance, {reader.name()})
                    case 0x02:  # something of an enclosing component
                        reader.u32()
                        reader.u32()
                    case _:
                        raise Malformed(f"has a malformed alias at byte {reader.position}")
    return used


def _core_instance(reader: Reader) -> tuple[int | None, list[tuple[bytes, int]]]:
    """(module, [(argument, core instance)]), or (None, []) for an instance made of exports."""
    if reader.byte() == 0x00:
        module, arguments = reader.u32(), []
        for _ in range(reader.u32()):
            name = reader.name()
            reader.expect(_CORE_INSTANCE_SORT, "instance")
            arguments.append((name, reader.u32()))
        return module, arguments
    for _ in range(reader.u32()):
        reader.name()
        reader.byte()
        reader.u32()
    return None, []
