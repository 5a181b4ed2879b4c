"""Lowering: Python's values become a guest's, by functions that are prepared once for each type.

Two places can give memory to an encoder: an `Arena` (arguments of a call: ours, reused) and `NATIVE` (results of host
functions: wasmtime's, which frees them). See `native` for the rules of ownership.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import addressof
from typing import Any, Protocol

from host_bindings import contract
from host_bindings.body import GUEST_CHUNK_BYTES
from runtime.engine import native
from runtime.engine.layout import (
    BOOL,
    DOUBLE,
    ENTRY_BYTES,
    ENUM,
    F64,
    LIST,
    NAME,
    NAME_BYTES,
    OPTION,
    POINTER,
    RECORD,
    RESOURCE,
    RESULT,
    S32,
    S64,
    STRING,
    TUPLE,
    U8,
    U16,
    U32,
    U64,
    VALUE,
    VALUE_BYTES,
    VARIANT,
    CodecError,
    Handles,
    for_part,
)
from runtime.engine.native import BYTES_OFFSET, MEMORY

put = VALUE.pack_into

Encoder = Callable[[Handles, int, Any], None]
"""(handles, address of a slot of kind 0, value)."""


def utf8(text: str) -> bytes:
    """UTF-8 that wasmtime accepts whatever the text holds: lone surrogates become question marks."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


class Memory(Protocol):
    """Where an encoder's values get their memory."""

    def string(self, address: int, data: bytes) -> None:
        """Puts {size, where} of the bytes at `address`."""

    def text(self, address: int, kind: int, data: bytes) -> None:
        """Puts a value that is a string or a name of a case."""

    def box(self, handles: Handles, encode: Encoder, slot: int, value: Any) -> int:
        """The address of a box with the encoded value; `slot` may be used on the way and is left as kind 0."""

    def array(self, address: int, count: int, stride: int) -> int:
        """Puts {count, where} of `count` zeroed places at `address`; returns where."""

    def resource(self, box: int) -> None:
        """Takes note of a resource's box."""


class _NativeMemory:
    """Memory of wasmtime's allocator: for results of host functions."""

    def string(self, address: int, data: bytes) -> None:
        native.new_string(address, len(data), data)

    def text(self, address: int, kind: int, data: bytes) -> None:
        native.new_string(address + 8, len(data), data)
        MEMORY[address] = kind

    def box(self, handles: Handles, encode: Encoder, slot: int, value: Any) -> int:
        encode(handles, slot, value)
        return native.new_box(slot)

    def array(self, address: int, count: int, stride: int) -> int:
        (native.new_list if stride == VALUE_BYTES else native.new_record)(address, count)
        where: int = NAME.unpack_from(MEMORY, address)[1]
        return where

    def resource(self, box: int) -> None:
        pass


NATIVE: Memory = _NativeMemory()


class Arena:
    """Memory for the arguments of one call at a time, reused from call to call."""

    def __init__(self, size_bytes: int = 4096) -> None:
        self._block = ctypes.create_string_buffer(size_bytes)
        self.start = addressof(self._block)
        self._end = self.start + size_bytes
        self._next = self.start
        self._kept: list[object] = []
        self._boxes: list[int] = []

    def reserve(self, size_bytes: int) -> int:
        """The address of zeroed memory that is good until `clear`."""
        address = self._next
        if address + size_bytes > self._end:
            block = ctypes.create_string_buffer(size_bytes)
            self._kept.append(block)
            return addressof(block)
        self._next = address + size_bytes
        return address

    def clear(self) -> None:
        """Gives everything back; wasmtime must have copied the arguments."""
        if self._boxes:
            for box in self._boxes:
                native.delete_resource(box)
            self._boxes.clear()
        self._kept.clear()
        self._next = self.start

    def string(self, address: int, data: bytes) -> None:
        self._kept.append(data)
        NAME.pack_into(MEMORY, address, len(data), id(data) + BYTES_OFFSET)

    def text(self, address: int, kind: int, data: bytes) -> None:
        self._kept.append(data)
        put(MEMORY, address, kind, len(data), id(data) + BYTES_OFFSET, 0)

    def box(self, handles: Handles, encode: Encoder, slot: int, value: Any) -> int:
        address = self.reserve(VALUE_BYTES)
        encode(handles, address, value)
        return address

    def array(self, address: int, count: int, stride: int) -> int:
        where = self.reserve(count * stride)
        ctypes.memset(where, 0, count * stride)
        NAME.pack_into(MEMORY, address, count, where)
        return where

    def resource(self, box: int) -> None:
        self._boxes.append(box)


def _integer_encoder(kind: int, bits: int) -> Encoder:
    mask = (1 << bits) - 1

    def encode(_handles: Handles, address: int, value: int) -> None:
        put(MEMORY, address, kind, value & mask, 0, 0)

    return encode


def _encode_double(_handles: Handles, address: int, value: float) -> None:
    DOUBLE.pack_into(MEMORY, address, F64, value)


def _text_encoder(kind: int, memory: Memory) -> Encoder:
    text = memory.text

    def encode(_handles: Handles, address: int, value: str) -> None:
        text(address, kind, value.encode() if value.isascii() else utf8(value))

    return encode


def _bytes_encoder(memory: Memory) -> Encoder:
    def encode(_handles: Handles, address: int, value: bytes) -> None:
        count = len(value)
        if count > GUEST_CHUNK_BYTES:
            raise CodecError(f"a list<u8> holds at most {GUEST_CHUNK_BYTES} bytes, this one {count}")
        where = memory.array(address + 8, count, VALUE_BYTES)
        MEMORY[address] = LIST
        if count:
            view = MEMORY[where : where + count * VALUE_BYTES]
            view[::VALUE_BYTES] = bytes((U8,)) * count
            view[8::VALUE_BYTES] = value

    return encode


def _list_encoder(element: Encoder, memory: Memory) -> Encoder:
    def encode(handles: Handles, address: int, value: list[Any]) -> None:
        where = memory.array(address + 8, len(value), VALUE_BYTES)
        MEMORY[address] = LIST
        for i, item in enumerate(value):
            element(handles, where + i * VALUE_BYTES, item)

    return encode


def _record_encoder(fields: tuple[tuple[str, contract.Type], ...], memory: Memory) -> Encoder:
    parts = [(name.encode(), encoder(part, memory)) for name, part in fields]
    count = len(parts)
    string, array = memory.string, memory.array

    def encode(handles: Handles, address: int, value: tuple[Any, ...]) -> None:
        where = array(address + 8, count, ENTRY_BYTES)
        MEMORY[address] = RECORD
        for (name, part), item in zip(parts, value, strict=True):
            string(where, name)
            part(handles, where + NAME_BYTES, item)
            where += ENTRY_BYTES

    return encode


def _tuple_encoder(elements: tuple[contract.Type, ...], memory: Memory) -> Encoder:
    parts = [encoder(part, memory) for part in elements]

    def encode(handles: Handles, address: int, value: tuple[Any, ...]) -> None:
        where = memory.array(address + 8, len(parts), VALUE_BYTES)
        MEMORY[address] = TUPLE
        for part, item in zip(parts, value, strict=True):
            part(handles, where, item)
            where += VALUE_BYTES

    return encode


def _option_encoder(inner: Encoder, memory: Memory) -> Encoder:
    def encode(handles: Handles, address: int, value: Any) -> None:
        box = 0 if value is None else memory.box(handles, inner, address, value)
        put(MEMORY, address, OPTION, box, 0, 0)

    return encode


def _result_encoder(ok: Encoder | None, error: Encoder | None, memory: Memory) -> Encoder:
    def encode(handles: Handles, address: int, value: Any) -> None:
        failed = isinstance(value, contract.Err)
        side = error if failed else ok
        content = value.value if failed else value
        box = 0 if side is None else memory.box(handles, side, address, content)
        put(MEMORY, address, RESULT, 0 if failed else 1, box, 0)

    return encode


def _variant_encoder(kind: contract.Variant, memory: Memory) -> Encoder:
    cases = {name: (name.encode(), for_part(lambda t: encoder(t, memory), part)) for name, part in kind.cases}
    choose = kind.choose
    string = memory.string

    def encode(handles: Handles, address: int, value: Any) -> None:
        name, content = (choose(value), value) if choose is not None else value
        encoded, part = cases[name]
        box = 0 if part is None else memory.box(handles, part, address, content)
        string(address + 8, encoded)
        POINTER.pack_into(MEMORY, address + 24, box)
        MEMORY[address] = VARIANT

    return encode


def _resource_encoder(resource: contract.Resource, memory: Memory) -> Encoder:
    def encode(handles: Handles, address: int, value: object) -> None:
        box = native.new_resource(handles.context, handles.insert(value, resource), resource.number)
        memory.resource(box)
        put(MEMORY, address, RESOURCE, box, 0, 0)

    return encode


_INTEGER_KINDS = {"bool": (BOOL, 8), "u8": (U8, 8), "u16": (U16, 16), "u32": (U32, 32), "u64": (U64, 64)} | {
    "s32": (S32, 32),
    "s64": (S64, 64),
}


def encoder(kind: contract.Type, memory: Memory) -> Encoder:
    """The function that writes values of a type into slots, with memory from `memory`."""

    def prepare(part: contract.Type) -> Encoder:
        return encoder(part, memory)

    match kind:
        case contract.Primitive("string"):
            return _text_encoder(STRING, memory)
        case contract.Primitive("list<u8>"):
            return _bytes_encoder(memory)
        case contract.Primitive("f64"):
            return _encode_double
        case contract.Primitive(name):
            return _integer_encoder(*_INTEGER_KINDS[name])
        case contract.ListOf(element):
            return _list_encoder(encoder(element, memory), memory)
        case contract.OptionOf(inner):
            return _option_encoder(encoder(inner, memory), memory)
        case contract.ResultOf(ok, error):
            return _result_encoder(for_part(prepare, ok), for_part(prepare, error), memory)
        case contract.TupleOf(elements):
            return _tuple_encoder(elements, memory)
        case contract.Record(fields):
            return _record_encoder(fields, memory)
        case contract.Variant():
            return _variant_encoder(kind, memory)
        case contract.Enum():
            return _text_encoder(ENUM, memory)
        case contract.Own(resource):
            return _resource_encoder(resource, memory)
        case _:
            raise TypeError(f"no encoder for {kind!r}")
