"""What one statement's run came to, and the two forms in which a request's answer tells it.

The plain form has an object for each statement. The compact one, for an SDK that runs many statements at once, says
what they have in common once: an interpreter in a guest takes longer to read JSON than SQLite takes to insert a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from host_bindings.d1 import values

SERVED_BY = "cloister"

META = ("duration", "changes", "last_row_id", "changed_db", "size_after", "rows_read", "rows_written")
"""The members of `meta` that the compact form has, in its order."""


class Outcome(NamedTuple):
    """`rows` are JSON arrays. `duration_ms` is in milliseconds, `size_after` in bytes."""

    columns: Sequence[str]
    rows: list[bytes]
    duration_ms: float
    changes: int
    last_row_id: int
    changed_db: bool
    size_after: int
    rows_read: int
    rows_written: int


def plain(outcomes: Sequence[Outcome], bookmark: str | None) -> bytes:
    """[{"columns", "rows", "meta"}, …]; the last one has "bookmark" if there is one."""
    texts = [
        b'{"columns":%b,"rows":[%b],"meta":%b}'
        % (values.json(outcome.columns), b",".join(outcome.rows), values.json(_meta(outcome)))
        for outcome in outcomes
    ]
    if bookmark is not None:
        texts[-1] = b'%b,"bookmark":%b}' % (texts[-1][:-1], values.json(bookmark))
    return b"[%b]" % b",".join(texts)


def compact(outcomes: Sequence[Outcome], bookmark: str | None) -> bytes:
    """{"count", "columns": [[name …] …], "which", "rows", "meta", "served_by", "bookmark"?}, for all results at once.

    `which` of the columns a result has, and each member of `meta`, is a list with one value for each result, or one
    value that all have. `rows` is a list of each result's rows, or null if none has any.
    """
    positions: dict[tuple[str, ...], int] = {}
    columns, rows, *meta = zip(*outcomes, strict=True)
    which = [positions.setdefault(tuple(names), len(positions)) for names in columns]
    meta[0] = tuple(round(duration_ms, 4) for duration_ms in meta[0])
    listed = b",".join(b"[%b]" % b",".join(each) for each in rows)
    tail = b"" if bookmark is None else b',"bookmark":%b' % values.json(bookmark)
    return b'{"count":%d,"columns":%b,"which":%b,"rows":%b,"meta":%b,"served_by":%b%b}' % (
        len(outcomes),
        values.json(list(positions)),
        values.json(_common(which)),
        b"[%b]" % listed if any(rows) else b"null",
        values.json({name: _common(each) for name, each in zip(META, meta, strict=True)}),
        values.json(SERVED_BY),
        tail,
    )


def _common(each: Sequence[int | float | bool]) -> object:
    """The values, or the one that all of them are."""
    return each[0] if each.count(each[0]) == len(each) else each


def _meta(outcome: Outcome) -> dict[str, object]:
    return {
        "served_by": SERVED_BY,
        **dict(zip(META, outcome[2:], strict=True)),
        "duration": round(outcome.duration_ms, 4),
    }
