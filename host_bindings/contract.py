"""The vocabulary in which a capability describes the functions that a component may import.

A capability (`kv/binding.py`, say) declares an `Interface` of `HostFunction`s with the types below; `runtime.engine`
turns them into linker definitions and values. The declarations say the same as `wit/worker.wit`; every upload compares
the component's imports with them, so a difference shows at the first deploy.

How values look in Python:

    Bool, U16, U32, U64, S32, S64    bool, int
    F64                              float
    String                           str
    Bytes (list<u8>)                 bytes
    ListOf                           list
    OptionOf                         None or the value (an option of an option cannot be told apart: do not use it)
    TupleOf, Record                  tuple, in the order of declaration (a NamedTuple will do)
    Enum                             str, the case's name
    Variant                          (case name, value or None); with `choose`, the bare value, see there
    ResultOf                         the ok value, or `Err(error)`; a host function may raise `Failure` instead where
                                     the error is WIT's `failure`
    Own, Borrow                      the host's object; the engine keeps the handles
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


class Failure(Exception):
    """An operation failed in a way that the guest is to see: WIT's `failure`.

    `name` is the JavaScript class of the error ("Error", "TypeError", "RangeError", "SyntaxError"); `message` is shown
    to the tenant as it is, so it must name nothing of the host's.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


class LimitReached(Failure):
    """A limit of the tenant's was hit in a host function. If the guest does not catch it, the caller is told which.

    `code` names the limit ("limit.kv_storage"); `status` is HTTP's.
    """

    def __init__(self, code: str, status: int, name: str, message: str) -> None:
        super().__init__(name, message)
        self.code = code
        self.status = status


@dataclass(frozen=True, slots=True)
class Err:
    """The error side of a `result`, in either direction."""

    value: Any


class Type:
    """A WIT type. Instances are immutable and compared by structure."""


@dataclass(frozen=True)
class Primitive(Type):
    """A type without parts; `name` is its WIT name."""

    name: str


Bool = Primitive("bool")
U8 = Primitive("u8")
U16 = Primitive("u16")
U32 = Primitive("u32")
U64 = Primitive("u64")
S32 = Primitive("s32")
S64 = Primitive("s64")
F64 = Primitive("f64")
String = Primitive("string")
Bytes = Primitive("list<u8>")


@dataclass(frozen=True)
class ListOf(Type):
    element: Type


@dataclass(frozen=True)
class OptionOf(Type):
    inner: Type


@dataclass(frozen=True)
class ResultOf(Type):
    ok: Type | None
    error: Type | None


@dataclass(frozen=True)
class TupleOf(Type):
    elements: tuple[Type, ...]


@dataclass(frozen=True)
class Record(Type):
    fields: tuple[tuple[str, Type], ...]


@dataclass(frozen=True)
class Enum(Type):
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Variant(Type):
    """A tagged union.

    With `choose`, values are bare: `choose(value)` names the case for a value on its way to the guest, and a value
    from the guest arrives without its case's name. Only for variants whose cases have distinct Python types.
    """

    cases: tuple[tuple[str, Type | None], ...]
    choose: Callable[[Any], str] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Resource:
    """A resource type of the host's. `number` tells types apart in the engine: unique in the whole contract.

    When the guest drops its handle the engine forgets the object and calls its `close()`, if it has one. With
    `per_call` the same happens at the end of the call in which the guest got the handle, dropped or not.
    """

    name: str
    number: int
    per_call: bool = False


@dataclass(frozen=True)
class Own(Type):
    resource: Resource


@dataclass(frozen=True)
class Borrow(Type):
    resource: Resource


@dataclass(frozen=True)
class HostFunction:
    """A function that a component may import.

    `implementation(context, *arguments)` gets the calling instance's `GuestContext` and the converted arguments. It
    returns the result or, only if `may_wait`, an awaitable of it: then the guest's fiber is suspended and the event
    loop goes on. It runs on the event loop and must not block it. It raises `Failure` where the result type has an
    error side. Anything else that it raises ends the call with an internal error and spends the instance.

    With `prompt` a coroutine is run up to its first wait before the guest is suspended: one that does not wait answers
    at once. Up to there it runs outside of any asyncio task of its own, so it must use nothing that asks for the
    current one (`asyncio.timeout`).

    `name` is as in the component: "get", "[method]body.read", "[static]…", "[constructor]…".
    """

    name: str
    parameters: tuple[Type, ...]
    result: Type | None
    implementation: Callable[..., Any | Awaitable[Any]]
    may_wait: bool = False
    prompt: bool = False


@dataclass(frozen=True)
class Interface:
    """One WIT interface, `name` with package and version: "cloister:worker/kv@0.1.0".

    `resources` lists the resource types that the interface defines or uses. `refused` names functions that may be
    imported but trap when they are called (the parts of WASI that this host does not give).
    """

    name: str
    functions: tuple[HostFunction, ...] = ()
    resources: tuple[Resource, ...] = ()
    refused: tuple[str, ...] = ()


FAILURE = Record((("name", String), ("message", String)))
"""WIT's `types.failure`."""
