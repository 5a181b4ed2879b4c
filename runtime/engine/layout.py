"""How a value lies in wasmtime's memory: 32 bytes, a kind and then its content or where that is."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol, TypeVar

from host_bindings import contract
from runtime.engine import native

(
    BOOL,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    CHAR,
    STRING,
    LIST,
    RECORD,
    TUPLE,
    VARIANT,
    ENUM,
    OPTION,
    RESULT,
    FLAGS,
    RESOURCE,
) = range(22)

VALUE = struct.Struct("<B7xQQQ")
DOUBLE = struct.Struct("<B7xd16x")
POINTER = struct.Struct("<Q")
NAME = struct.Struct("<QQ")
"""{size, where} of a string, a list, a record."""

VALUE_BYTES = native.VALUE_BYTES
ENTRY_BYTES = native.RECORD_ENTRY_BYTES
NAME_BYTES = NAME.size


class CodecError(Exception):
    """A value does not have the declared type, or is larger than the contract allows."""


class Handles(Protocol):
    """Where resources are looked up while values of one instance are converted."""

    context: int

    def insert(self, value: object, resource: contract.Resource) -> int:
        """Puts an object into the instance's table; its number for the guest."""

    def take(self, rep: int, number: int, *, owned: bool) -> object:
        """The object for a handle. Raises `CodecError` if there is none of that type."""


T = TypeVar("T")


def for_part(prepare: Callable[[contract.Type], T], part: contract.Type | None) -> T | None:
    """`prepare` for the part of a type that may have none."""
    return None if part is None else prepare(part)
