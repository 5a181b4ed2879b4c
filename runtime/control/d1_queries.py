"""SQL for a D1 database: `query` with rows as objects, `raw` with rows as lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from host_bindings.d1.database import Statement, StatementResult
from host_bindings.d1.errors import D1Error
from host_bindings.d1.statements import split_statements
from runtime.control.d1_databases import DATABASE, find, store
from runtime.control.envelope import Code, ControlError
from runtime.control.routes import Call, JsonBody, NoQuery, Result, Route

STATEMENTS_MAX = 10_000
BODY_BYTES_MAX = 10 * 1024 * 1024


class Query(msgspec.Struct, frozen=True):
    sql: str
    params: list[str | int | float | bool | None] | None = None


class Batch(msgspec.Struct, frozen=True):
    """One query (`sql`), or several (`batch`); all that is sent at once is one transaction."""

    sql: str | None = None
    params: list[str | int | float | bool | None] | None = None
    batch: Annotated[list[Query], msgspec.Meta(max_length=STATEMENTS_MAX)] | None = None


class QueryResult(msgspec.Struct, frozen=True):
    results: list[dict[str, Any]]
    success: bool
    meta: dict[str, Any]


class RawRows(msgspec.Struct, frozen=True):
    columns: list[str]
    rows: list[list[Any]]


class RawResult(msgspec.Struct, frozen=True):
    results: RawRows
    success: bool
    meta: dict[str, Any]


async def query(call: Call[NoQuery, Batch]) -> Result:
    results = await _run(call)
    return Result(
        [QueryResult([dict(zip(r.columns, _row(row), strict=True)) for row in r.rows], True, _meta(r)) for r in results]
    )


async def raw(call: Call[NoQuery, Batch]) -> Result:
    results = await _run(call)
    return Result([RawResult(RawRows(r.columns, [_row(row) for row in r.rows]), True, _meta(r)) for r in results])


async def _run(call: Call[NoQuery, Batch]) -> list[StatementResult]:
    database = store(call, await find(call))
    statements = _statements(call.body)
    try:
        return await database.query(statements)
    except D1Error as error:
        raise sql_error(error) from None


def sql_error(error: D1Error) -> ControlError:
    return ControlError(400, Code.D1_SQL, error.message.removeprefix("D1_ERROR: "))


def _statements(body: Batch) -> Sequence[Statement]:
    """A statement for each result. Parameters belong to the last of a text."""
    if (body.sql is None) == (body.batch is None):
        raise ControlError(400, Code.D1_SQL, "Send either `sql` with `params`, or `batch`.")
    queries = body.batch if body.batch is not None else [Query(body.sql or "", body.params)]
    statements: list[Statement] = []
    for each in queries:
        texts = split_statements(each.sql)
        if not texts:
            raise ControlError(400, Code.D1_SQL, "No SQL statements detected.")
        statements += [Statement(text) for text in texts[:-1]]
        statements.append(Statement(texts[-1], tuple(each.params or ())))
    if len(statements) > STATEMENTS_MAX:
        raise ControlError(400, Code.D1_SQL, f"At most {STATEMENTS_MAX} statements can be sent at once.")
    return statements


def _row(row: list[Any]) -> list[Any]:
    """BLOBs are lists of numbers, as in D1."""
    return [list(value) if isinstance(value, bytes) else value for value in row]


def _meta(result: StatementResult) -> dict[str, Any]:
    return msgspec.structs.asdict(result.meta)


_BODY = JsonBody(Batch, bytes_max=BODY_BYTES_MAX)

ROUTES = (
    Route(
        "POST",
        f"{DATABASE}/query",
        query,
        "Run SQL; rows are objects",
        "data",
        "resource",
        list[QueryResult],
        body=_BODY,
        statuses=(408, 413),
    ),
    Route(
        "POST",
        f"{DATABASE}/raw",
        raw,
        "Run SQL; rows are lists",
        "data",
        "resource",
        list[RawResult],
        body=_BODY,
        statuses=(408, 413),
    ),
)
