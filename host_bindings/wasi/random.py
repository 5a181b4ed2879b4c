"""`wasi:random`: the operating system's random numbers, for the insecure interfaces too."""

from __future__ import annotations

import os

from host_bindings.context import GuestContext
from host_bindings.contract import U64, Bytes, HostFunction, Interface, TupleOf
from host_bindings.wasi.errors import GuestTrap

RANDOM_BYTES_MAX = 64 * 1024
"""The most that one call gives: the length is the guest's, the memory is the host's."""


def random_bytes(_: GuestContext, length: int) -> bytes:
    if length > RANDOM_BYTES_MAX:
        raise GuestTrap(f"At most {RANDOM_BYTES_MAX} random bytes can be had at once, not {length}.")
    return os.urandom(length)


def random_u64(_: GuestContext) -> int:
    return int.from_bytes(os.urandom(8), "little")


def seed(context: GuestContext) -> tuple[int, int]:
    return random_u64(context), random_u64(context)


INTERFACES = (
    Interface(
        "wasi:random/random@0.2.0",
        functions=(
            HostFunction("get-random-bytes", (U64,), Bytes, random_bytes),
            HostFunction("get-random-u64", (), U64, random_u64),
        ),
    ),
    Interface(
        "wasi:random/insecure@0.2.0",
        functions=(
            HostFunction("get-insecure-random-bytes", (U64,), Bytes, random_bytes),
            HostFunction("get-insecure-random-u64", (), U64, random_u64),
        ),
    ),
    Interface(
        "wasi:random/insecure-seed@0.2.0",
        functions=(HostFunction("insecure-seed", (), TupleOf((U64, U64)), seed),),
    ),
)
