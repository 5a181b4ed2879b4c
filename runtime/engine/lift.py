"""Lifting: values of a guest become Python's, by functions that are prepared once for each type.

`decoder(type)` returns a closure; nothing looks at a type again when a call is made. Every decoder checks the kind of
what it reads: what a component declares is hostile, and a number must never be taken for an address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    NAME_BYTES,
    OPTION,
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
from runtime.engine.native import MEMORY

LIST_ELEMENTS_MAX = 100_000
"""What a guest may put into one list that is not bytes."""

unpack_from = VALUE.unpack_from

Decoder = Callable[[Handles, int], Any]
"""(handles, address of the value)."""


def _wrong(expected: str, kind: int) -> CodecError:
    return CodecError(f"expected {expected}, got a value of kind {kind}")


def _integer_decoder(kind_wanted: int, bits: int, signed: bool) -> Decoder:
    mask = (1 << bits) - 1
    half, full = 1 << (bits - 1), 1 << bits

    def decode(_handles: Handles, address: int) -> int:
        kind: int
        content: int
        kind, content, _, _ = unpack_from(MEMORY, address)
        if kind != kind_wanted:
            raise _wrong("an integer", kind)
        content &= mask
        return content - full if signed and content >= half else content

    return decode


def _decode_bool(_handles: Handles, address: int) -> bool:
    if MEMORY[address] != BOOL:
        raise _wrong("bool", MEMORY[address])
    return MEMORY[address + 8] != 0


def _decode_double(_handles: Handles, address: int) -> float:
    kind, value = DOUBLE.unpack_from(MEMORY, address)
    if kind != F64:
        raise _wrong("f64", kind)
    return float(value)


def _decode_string(_handles: Handles, address: int) -> str:
    kind, size, where, _ = unpack_from(MEMORY, address)
    if kind != STRING:
        raise _wrong("string", kind)
    return str(MEMORY[where : where + size], "utf-8") if size else ""


def _decode_enum(_handles: Handles, address: int) -> str:
    kind, size, where, _ = unpack_from(MEMORY, address)
    if kind != ENUM:
        raise _wrong("enum", kind)
    return str(MEMORY[where : where + size], "utf-8")


def _decode_bytes(_handles: Handles, address: int) -> bytes:
    kind, count, where, _ = unpack_from(MEMORY, address)
    if kind != LIST:
        raise _wrong("list<u8>", kind)
    if count > GUEST_CHUNK_BYTES:
        raise CodecError(f"a list<u8> holds at most {GUEST_CHUNK_BYTES} bytes, this one {count}")
    if count == 0:
        return b""
    values = MEMORY[where : where + count * VALUE_BYTES]
    if bytes(values[::VALUE_BYTES]) != bytes((U8,)) * count:
        raise _wrong("list<u8>", values[0])
    return bytes(values[8::VALUE_BYTES])


def _sequence_decoder(kind_wanted: int, elements: tuple[Decoder, ...], stride: int, start: int) -> Decoder:
    count_wanted = len(elements)
    placed = [(element, start + i * stride) for i, element in enumerate(elements)]

    def decode(handles: Handles, address: int) -> tuple[Any, ...]:
        kind, count, where, _ = unpack_from(MEMORY, address)
        if kind != kind_wanted or count != count_wanted:
            raise _wrong(f"{count_wanted} fields", kind)
        return tuple([element(handles, where + offset) for element, offset in placed])

    return decode


def _list_decoder(element: Decoder) -> Decoder:
    def decode(handles: Handles, address: int) -> list[Any]:
        kind, count, where, _ = unpack_from(MEMORY, address)
        if kind != LIST:
            raise _wrong("list", kind)
        if count > LIST_ELEMENTS_MAX:
            raise CodecError(f"a list holds at most {LIST_ELEMENTS_MAX} elements, this one {count}")
        return [element(handles, where + i * VALUE_BYTES) for i in range(count)]

    return decode


def _option_decoder(inner: Decoder) -> Decoder:
    def decode(handles: Handles, address: int) -> Any:
        kind, box, _, _ = unpack_from(MEMORY, address)
        if kind != OPTION:
            raise _wrong("option", kind)
        return inner(handles, box) if box else None

    return decode


def _result_decoder(ok: Decoder | None, error: Decoder | None) -> Decoder:
    def decode(handles: Handles, address: int) -> Any:
        kind, _, box, _ = unpack_from(MEMORY, address)
        if kind != RESULT:
            raise _wrong("result", kind)
        side = ok if MEMORY[address + 8] else error
        value = side(handles, box) if side is not None and box else None
        return value if MEMORY[address + 8] else contract.Err(value)

    return decode


def _variant_decoder(kind_of: contract.Variant) -> Decoder:
    cases = {name.encode(): (name, decoder(part) if part is not None else None) for name, part in kind_of.cases}
    bare = kind_of.choose is not None

    def decode(handles: Handles, address: int) -> Any:
        kind, size, where, box = unpack_from(MEMORY, address)
        if kind != VARIANT:
            raise _wrong("variant", kind)
        found = cases.get(bytes(MEMORY[where : where + size]))
        if found is None:
            raise CodecError("a variant has a case that the contract does not know")
        name, part = found
        value = part(handles, box) if part is not None and box else None
        return value if bare else (name, value)

    return decode


def _resource_decoder(resource: contract.Resource, owned: bool) -> Decoder:
    def decode(handles: Handles, address: int) -> object:
        kind, box, _, _ = unpack_from(MEMORY, address)
        if kind != RESOURCE:
            raise _wrong(resource.name, kind)
        try:
            rep, number = native.take_resource(handles.context, box)
        except native.NativeError:
            # The signature says only that there is a resource: this is one of the guest's own.
            raise CodecError(f"expected {resource.name}, got a resource of another type") from None
        if number != resource.number:
            raise _wrong(resource.name, kind)
        return handles.take(rep, number, owned=owned)

    return decode


_PRIMITIVE_DECODERS: dict[str, Decoder] = {
    "bool": _decode_bool,
    "u8": _integer_decoder(U8, 8, False),
    "u16": _integer_decoder(U16, 16, False),
    "u32": _integer_decoder(U32, 32, False),
    "u64": _integer_decoder(U64, 64, False),
    "s32": _integer_decoder(S32, 32, True),
    "s64": _integer_decoder(S64, 64, True),
    "f64": _decode_double,
    "string": _decode_string,
    "list<u8>": _decode_bytes,
}


def decoder(kind: contract.Type) -> Decoder:
    """The function that reads values of a type."""
    match kind:
        case contract.Primitive(name):
            return _PRIMITIVE_DECODERS[name]
        case contract.ListOf(element):
            return _list_decoder(decoder(element))
        case contract.OptionOf(inner):
            return _option_decoder(decoder(inner))
        case contract.ResultOf(ok, error):
            return _result_decoder(for_part(decoder, ok), for_part(decoder, error))
        case contract.TupleOf(elements):
            return _sequence_decoder(TUPLE, tuple(map(decoder, elements)), VALUE_BYTES, 0)
        case contract.Record(fields):
            return _sequence_decoder(RECORD, tuple(decoder(part) for _, part in fields), ENTRY_BYTES, NAME_BYTES)
        case contract.Variant():
            return _variant_decoder(kind)
        case contract.Enum():
            return _decode_enum
        case contract.Own(resource):
            return _resource_decoder(resource, owned=True)
        case contract.Borrow(resource):
            return _resource_decoder(resource, owned=False)
        case _:
            raise TypeError(f"no decoder for {kind!r}")
