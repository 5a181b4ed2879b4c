"""What a statement's program tells of it, which SQLite shows by EXPLAIN.

D1 counts the rows that a statement reads and writes, index entries included, in the opcodes that do it. Stock SQLite
has no such counters; but how often an opcode that writes is carried out for each changed row, and whether there are any
that read, is seen in the program. And a statement that passes through no table as a whole need not be watched when an
application runs it again, which it does a thousand times in a batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import apsw

_KEPT = 200
_TEXT_CHARACTERS_MAX = 4096

# What opcodes mean by their operands, in SQLite's source (vdbe.c, insert.c, delete.c).
_COUNTS_AS_CHANGE = 0x01
"""OPFLAG_NCHANGE: in P5 of what inserts, in P2 of Delete."""
_UPDATES = 0x04
"""OPFLAG_ISUPDATE, in P5 of what inserts."""
_DOES_NOTHING = 0x40
"""OPFLAG_ISNOOP, in P5 of Insert: there for hooks only."""
_FULL_SCAN = 1
"""SQLITE_STMTSTATUS_FULLSCAN_STEP, in P5 of what steps on."""

_TEMPORARY = frozenset({"OpenEphemeral", "OpenAutoindex", "OpenDup", "OpenPseudo", "SorterOpen"})
_STEPS = frozenset({"Next", "Prev", "VNext", "SorterNext"})
_READS = _STEPS | frozenset(
    {"Count", "SeekLT", "SeekLE", "SeekGE", "SeekGT", "NotExists", "SeekRowid", "Last", "Rewind", "Sort", "SorterSort"}
)
"""After which D1 counts one row, or after Count all of them."""
_ONLY_COUNTS = frozenset(
    {"Init", "OpenRead", "Count", "Close", "Copy", "ResultRow", "Halt", "Transaction", "Goto", "Noop"}
)
_AGGREGATES = frozenset({"AggStep", "AggStep1", "AggValue", "AggFinal"})
_WATCHED = frozenset({"Program", "VOpen"})
"""Triggers and actions of foreign keys; virtual tables."""


@dataclass(frozen=True, slots=True)
class Program:
    """Figures are D1's or, where they depend on what the rows are, lower bounds."""

    written_per_change: int = 0
    written_once: int = 1
    """If anything is changed."""
    reads: bool = True
    """Whether it reads rows at all."""
    counts: bool = False
    """It only tells how many rows a table has, and reads so many."""
    returns_what_it_reads: bool = False
    """Each row comes from a table."""
    changes_what_it_reads: bool = False
    plain: bool = False
    """Nothing needs to be watched: it scans no table."""
    columns: Sequence[str] = ()

    def written(self, changes: int) -> int:
        return changes * self.written_per_change + self.written_once if changes else 0

    def read(self, rows: Sequence[bytes], changes: int, scanned: int) -> int:
        """Rows read. `rows` are those that came back, as JSON; full scans have passed through `scanned`."""
        if not self.reads:
            return 0
        if self.counts and len(rows) == 1:
            return int(rows[0][1:-1])
        returned = len(rows) if self.returns_what_it_reads else 0
        return max(scanned, returned, changes if self.changes_what_it_reads else 0)


UNKNOWN = Program()
OF_SCHEMA = Program(written_once=0, reads=False)
"""A change of the schema, whose rows are SQLite's own."""


class Instruction(NamedTuple):
    address: int
    opcode: str
    p1: int
    p2: int
    p3: int
    p4: str | None
    p5: int


def understand(instructions: Iterable[Instruction]) -> Program:
    listed = list(instructions)
    opcodes = {each.opcode for each in listed}
    if "VUpdate" in opcodes:
        # Its changes are those within the virtual table; D1 counts one for each row.
        return UNKNOWN
    if opcodes & _WATCHED:
        return Program(written_per_change=1, written_once=0)
    per_change, once, changes_what_it_reads = _writes(listed)
    results = [each for each in listed if each.opcode == "ResultRow"]
    return Program(
        written_per_change=per_change,
        written_once=once,
        reads=not opcodes.isdisjoint(_READS),
        counts="Count" in opcodes and opcodes <= _ONLY_COUNTS and [each.p2 for each in results] == [1],
        returns_what_it_reads=len(results) == 1 and opcodes.isdisjoint(_AGGREGATES | {"Yield"}),
        changes_what_it_reads=changes_what_it_reads,
        plain=not any(each.opcode in _STEPS and each.p5 == _FULL_SCAN for each in listed),
    )


def _writes(program: list[Instruction]) -> tuple[int, int, bool]:
    """Rows written for each changed one, and once; whether a row must be read to be changed."""
    temporary = {each.p1 for each in program if each.opcode in _TEMPORARY}
    writing = [each for each in program if each.p1 not in temporary]
    inserts = [each for each in writing if each.opcode == "Insert"]
    rows = [each for each in inserts if not each.p5 & _DOES_NOTHING]
    entries = [each for each in writing if each.opcode == "IdxInsert" and not _is_partial(program, each)]
    counted = [each for each in [*rows, *entries] if each.p5 & _COUNTS_AS_CHANGE]
    deletes = any(each.opcode == "Delete" and each.p2 & _COUNTS_AS_CHANGE for each in writing)
    # What is not counted as a change is the end of AUTOINCREMENT's sequence. A given id may leave that as it is.
    sequences = sum(not each.p5 & _COUNTS_AS_CHANGE for each in rows)
    once = 0 if any(each.opcode == "NotExists" for each in program) else sequences
    if len(counted) == 1 and not deletes:
        # In a table WITHOUT ROWID only an insert has something for hooks.
        updates = bool(counted[0].p5 & _UPDATES) if rows else not inserts
        return len(rows) - sequences + len(entries), once, updates
    # A delete, where index entries do not count; or an upsert, which inserts or updates.
    return 1, once, deletes and not counted


def _is_partial(program: list[Instruction], entry: Instruction) -> bool:
    """Whether the row may have no entry in this index: then the instruction before jumps over it."""
    before = program[entry.address - 1]
    return before.opcode == "IsNull" and before.p2 > entry.address


class Programs:
    """Of the texts that a connection has run, as long as the schema is the same: `get` and `look` are to be asked about
    the version that `at` was told last."""

    def __init__(self, explain: Callable[[str, list[Any]], Iterable[tuple[Any, ...]]]) -> None:
        """`explain` gives the rows of EXPLAIN for a text with its parameters."""
        self._explain = explain
        self._known: OrderedDict[str, Program] = OrderedDict()
        self._schema_version = -1
        self.get = self._known.get

    def at(self, schema_version: int) -> None:
        if schema_version != self._schema_version:
            self._schema_version = schema_version
            self._known.clear()

    def look(self, sql: str, parameters: list[Any], columns: Sequence[str]) -> Program:
        """The program of a text of one statement, which is no pragma, changes no schema, and has been run."""
        found = self._known.get(sql)
        if found is not None:
            return found
        try:
            found = understand(Instruction(*row[:7]) for row in self._explain(sql, parameters))
        except (apsw.Error, UnicodeDecodeError):  # values in the text are shown in parts
            found = UNKNOWN
        if len(sql) <= _TEXT_CHARACTERS_MAX:
            found = self._known[sql] = replace(found, columns=columns)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return found
