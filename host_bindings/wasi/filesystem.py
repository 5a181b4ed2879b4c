"""`wasi:filesystem`: there are no files.

No directory is open when a guest starts, and only an open one gives access to others; so nobody can hold a descriptor,
and every function that takes one is refused. What the guest's C library makes of it: opening a file fails with ENOENT.
"""

from __future__ import annotations

from host_bindings.context import GuestContext
from host_bindings.contract import HostFunction, Interface, ListOf, Own, String, TupleOf
from host_bindings.wasi.resources import DESCRIPTOR, DIRECTORY_ENTRY_STREAM, ERROR, INPUT_STREAM, OUTPUT_STREAM


def get_directories(_: GuestContext) -> list[tuple[object, str]]:
    return []


INTERFACES = (
    Interface(
        "wasi:filesystem/types@0.2.0",
        resources=(DESCRIPTOR, DIRECTORY_ENTRY_STREAM, INPUT_STREAM, OUTPUT_STREAM, ERROR),
        refused=(
            "[method]descriptor.read-via-stream",
            "[method]descriptor.write-via-stream",
            "[method]descriptor.append-via-stream",
            "[method]descriptor.advise",
            "[method]descriptor.sync-data",
            "[method]descriptor.get-flags",
            "[method]descriptor.get-type",
            "[method]descriptor.set-size",
            "[method]descriptor.set-times",
            "[method]descriptor.read",
            "[method]descriptor.write",
            "[method]descriptor.read-directory",
            "[method]descriptor.sync",
            "[method]descriptor.create-directory-at",
            "[method]descriptor.stat",
            "[method]descriptor.stat-at",
            "[method]descriptor.set-times-at",
            "[method]descriptor.link-at",
            "[method]descriptor.open-at",
            "[method]descriptor.readlink-at",
            "[method]descriptor.remove-directory-at",
            "[method]descriptor.rename-at",
            "[method]descriptor.symlink-at",
            "[method]descriptor.unlink-file-at",
            "[method]descriptor.is-same-object",
            "[method]descriptor.metadata-hash",
            "[method]descriptor.metadata-hash-at",
            "[method]directory-entry-stream.read-directory-entry",
            "filesystem-error-code",
        ),
    ),
    Interface(
        "wasi:filesystem/preopens@0.2.0",
        functions=(HostFunction("get-directories", (), ListOf(TupleOf((Own(DESCRIPTOR), String))), get_directories),),
        resources=(DESCRIPTOR,),
    ),
)
