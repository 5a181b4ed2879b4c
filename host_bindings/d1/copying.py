"""A copy of a database that is in use, with its history, so that time travel works in the copy as well."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from host_bindings.d1.connection import FILE_NAME
from host_bindings.d1.history import History
from host_bindings.d1.limits import SqlLimits
from host_bindings.storage.copying import copy_file


def copy_d1(source: Path, target: Path) -> None:
    """Copies the database in the directory `source` to `target`. Blocks.

    The file changes at checkpoints alone, which wait for the history's lock. The log grows meanwhile, or begins anew if
    all of it is in the file; SQLite reads a log up to the last whole transaction that belongs to it, so the copy has
    everything that was committed before it began. SQLite itself must not open the database in this process meanwhile:
    closing a file gives up its locks. Raises `OSError`.
    """
    with History(source, SqlLimits()).locked():
        copy_file(source / FILE_NAME, target / FILE_NAME)
        with suppress(FileNotFoundError):
            log = f"{FILE_NAME}-wal"
            copy_file(source / log, target / log)
        for path in sorted((source / "history").glob("*.log")):
            copy_file(path, target / "history" / path.name)
