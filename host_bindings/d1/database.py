"""A D1 database, as the host uses it. Knows nothing of SQLite: the service runs the SQL elsewhere."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from host_bindings.d1.errors import D1Error
from host_bindings.d1.service import SqlService

Value = None | bool | int | float | str | bytes

_BYTES_KEY = "$bytes"


class Statement(msgspec.Struct, frozen=True):
    """SQL, and the values of its parameters. bool is stored as 1 or 0, NaN and infinities as NULL."""

    sql: str
    params: Sequence[Value] = ()


class Meta(msgspec.Struct, frozen=True):
    """What SQLite tells of a statement's run. `duration` is in milliseconds, `size_after` in bytes."""

    served_by: str
    duration: float
    changes: int
    last_row_id: int
    changed_db: bool
    size_after: int
    rows_read: int
    rows_written: int


class StatementResult(msgspec.Struct, frozen=True):
    columns: list[str]
    rows: list[list[Any]]
    """Values: None, int, float, str, bytes."""
    meta: Meta


class ExecResult(msgspec.Struct, frozen=True):
    """How many lines were run, and for how long (milliseconds)."""

    count: int
    duration: float


_decode_results = msgspec.json.Decoder(list[StatementResult]).decode
_decode_exec = msgspec.json.Decoder(ExecResult).decode


class Database:
    """One SQLite file in `directory`, made at the first request.

    Databases whose directories lie in the same parent directory count as one owner's and share its part of the
    service. At most one `Database` is open for a directory at any time.
    """

    def __init__(self, directory: Path, service: SqlService) -> None:
        self._service = service
        self._queue = service.open(directory, str(directory.parent))

    async def query(self, statements: Sequence[Statement]) -> list[StatementResult]:
        """Runs the statements in order, as one transaction: all or nothing. Raises `D1Error`."""
        request = {"statements": [{"sql": s.sql, "params": [_to_json(v) for v in s.params]} for s in statements]}
        try:
            text = msgspec.json.encode(request).decode()
        except (UnicodeEncodeError, TypeError):
            raise D1Error("D1_TYPE_ERROR: A text or value cannot be sent to the database.") from None
        results = _decode_results(await self.query_json(text))
        for result in results:
            for row in result.rows:
                if dict in map(type, row):
                    row[:] = [b64decode(v[_BYTES_KEY]) if type(v) is dict else v for v in row]
        return results

    async def exec(self, sql: str) -> ExecResult:
        """Runs a script, a line at a time, as one transaction. Raises `D1Error`."""
        return _decode_exec(await self.exec_json(sql))

    async def query_json(self, request: str) -> str:
        """`query` with the contract's JSON texts, which pass through this process untouched. Raises `D1Error`."""
        return await self._service.run(self._queue, "query", request)

    async def exec_json(self, sql: str) -> str:
        return await self._service.run(self._queue, "exec", sql)

    async def close(self) -> None:
        """Waits for what has been asked for, then closes the file. Later requests fail."""
        await self._service.close_queue(self._queue)


def _to_json(value: Value) -> object:
    return {_BYTES_KEY: b64encode(value).decode()} if isinstance(value, bytes) else value
