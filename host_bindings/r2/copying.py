"""A copy of a bucket that is in use: its metadata as they are at one moment, and every file that they name."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw

from host_bindings.r2 import metadata
from host_bindings.r2.files import ObjectFiles
from host_bindings.storage.copying import copy_database, copy_file

_TRIES = 50


class BucketInFlux(Exception):
    """Objects were deleted faster than they could be copied."""


def copy_bucket(source: Path, target: Path) -> None:
    """Copies the bucket in the directory `source` to `target`. Blocks.

    A file is written before the metadata name it and goes after they do not, and never changes between. So one that is
    not there any more belongs to an object that has gone: the metadata are copied anew, and what is new in them, until
    all files are there. Raises `BucketInFlux`, `OSError`, `apsw.Error`.
    """
    present, copies = ObjectFiles(source), ObjectFiles(target)
    copied: set[str] = set()
    for _ in range(_TRIES):
        wanted = _copy_metadata(source, target)
        for name in sorted(wanted - copied):
            try:
                copy_file(present.path(name), copies.path(name))
            except FileNotFoundError:
                break
            copied.add(name)
        else:
            copies.remove(sorted(copied - wanted))
            return
    raise BucketInFlux


def _copy_metadata(source: Path, target: Path) -> set[str]:
    """Copies them; the names of the files that they name."""
    copy = target / metadata.FILE_NAME
    copy_database(source / metadata.FILE_NAME, copy)
    with closing(apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        return metadata.files_on_disk(connection)
