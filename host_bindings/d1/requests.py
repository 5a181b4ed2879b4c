"""What the host itself asks of a database, and the answers: the JSON bodies of export, import, find and restore."""

from __future__ import annotations

import msgspec

from host_bindings.d1.values import StatementRequest


class DumpOptions(msgspec.Struct, frozen=True):
    """`tables`: only these, all if there are none."""

    no_schema: bool = False
    no_data: bool = False
    tables: list[str] = []


class Export(msgspec.Struct, frozen=True):
    """To the new file `path`, which is the host's choice."""

    path: str
    options: DumpOptions


class Import(msgspec.Struct, frozen=True):
    """All statements in the file `path` (UTF-8), then `last`, as one transaction."""

    path: str
    last: list[StatementRequest] = []


class Imported(msgspec.Struct, frozen=True):
    """`duration` is in milliseconds. Statements that share a line count as one query."""

    num_queries: int
    rows_written: int
    duration: float
    size_after: int


class Moment(msgspec.Struct, frozen=True):
    """A state of a database: at a time, or of a bookmark, or (neither) the present one."""

    timestamp_ms: int | None = None
    bookmark: str | None = None


class Travel(msgspec.Struct, frozen=True):
    """The bookmark of the state that was meant; the one of the state before, if that was given up."""

    bookmark: str
    previous_bookmark: str | None = None
