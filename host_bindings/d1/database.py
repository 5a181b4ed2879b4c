"""A D1 database, as the host uses it. Knows nothing of SQLite: the service runs the SQL elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from host_bindings.allowance import Account
from host_bindings.d1.errors import D1Error
from host_bindings.d1.requests import DumpOptions, Export, Imported, Moment, Travel
from host_bindings.d1.service import SqlService

Value = None | bool | int | float | str | bytes
Refusal = Callable[[str, str], Exception]

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
_decode_imported = msgspec.json.Decoder(Imported).decode
_decode_travel = msgspec.json.Decoder(Travel).decode


class Database:
    """One SQLite file in `directory`, made at the first request.

    Databases whose directories lie in the same parent directory count as one owner's and share its part of the
    service. At most one `Database` is open for a directory at any time.
    """

    def __init__(self, directory: Path, service: SqlService, account: Account | None = None) -> None:
        """`account` is the owner's; without one the service's own limits hold."""
        self._directory = directory
        self._service = service
        self._queue = service.open(directory, str(directory.parent), account)

    async def query(self, statements: Sequence[Statement]) -> list[StatementResult]:
        """Runs the statements in order, as one transaction: all or nothing. Raises `D1Error`."""
        request = {"statements": [_request(statement) for statement in statements]}
        results = _decode_results(await self.query_json(_json(request)))
        for result in results:
            for row in result.rows:
                if dict in map(type, row):
                    row[:] = [b64decode(v[_BYTES_KEY]) if type(v) is dict else v for v in row]
        return results

    async def exec(self, sql: str) -> ExecResult:
        """Runs a script, a line at a time, as one transaction. Raises `D1Error`."""
        return _decode_exec(await self.exec_json(sql))

    def query_json(self, request: str, refusal: Refusal = D1Error) -> asyncio.Future[str]:
        """`query` with the contract's JSON texts, which pass through this process untouched.

        The future fails with what `refusal` makes of a message and of the code of the limit that was hit, if one was.
        Raises `D1Error` for what is refused at once.
        """
        return self._service.submit(self._queue, "query", request, refusal)

    def exec_json(self, sql: str, refusal: Refusal = D1Error) -> asyncio.Future[str]:
        """`exec`, likewise."""
        return self._service.submit(self._queue, "exec", sql, refusal)

    # What the host itself asks for

    async def export(self, path: Path, options: DumpOptions | None = None) -> str:
        """Writes the database as SQL text to the file `path`; a bookmark of the state. Raises `D1Error`, `OSError`."""
        async with self._exchanged() as file:
            request = Export(str(file), options or DumpOptions())
            text = await self._service.submit(self._queue, "export", _json(request))
            await asyncio.to_thread(shutil.move, file, path)
        return str(msgspec.json.decode(text)["bookmark"])

    async def import_file(self, path: Path, last: Sequence[Statement] = ()) -> Imported:
        """Runs the SQL (UTF-8) in the file `path`, then `last`, as one transaction. Raises `D1Error`, `OSError`."""
        if (await asyncio.to_thread(path.stat)).st_size > self._service.limits.import_bytes:
            raise D1Error(f"D1_ERROR: The file is larger than {self._service.limits.import_bytes} bytes.")
        async with self._exchanged() as file:
            await asyncio.to_thread(shutil.copyfile, path, file)
            request = {"path": str(file), "last": [_request(statement) for statement in last]}
            return _decode_imported(await self._service.submit(self._queue, "import", _json(request)))

    @contextlib.asynccontextmanager
    async def _exchanged(self) -> AsyncIterator[Path]:
        """The name of a new file that the child can reach, which it can no others than those of databases."""
        folder = self._directory / "exchange"
        await asyncio.to_thread(lambda: folder.mkdir(mode=0o700, parents=True, exist_ok=True))
        file = folder / f"{secrets.token_hex(16)}.sql"
        try:
            yield file
        finally:
            await asyncio.to_thread(file.unlink, missing_ok=True)

    async def bookmark(self, at: datetime | None = None) -> str:
        """Of the present state, or of the one at a time in the last 7 days. Raises `D1Error`."""
        text = await self._service.submit(self._queue, "find", _json(_moment(at, None)))
        return _decode_travel(text).bookmark

    async def restore(self, *, at: datetime | None = None, bookmark: str | None = None) -> Travel:
        """Brings the database back to the state of a time or of a bookmark; the answer's `previous_bookmark` names the
        state before. Raises `D1Error`."""
        return _decode_travel(await self._service.submit(self._queue, "restore", _json(_moment(at, bookmark))))

    async def close(self) -> None:
        """Waits for what has been asked for, then closes the file. Later requests fail."""
        await self._service.close_queue(self._queue)


def _request(statement: Statement) -> dict[str, Any]:
    return {"sql": statement.sql, "params": [_to_json(value) for value in statement.params]}


def _moment(at: datetime | None, bookmark: str | None) -> Moment:
    return Moment(None if at is None else round(at.timestamp() * 1000), bookmark)


def _json(request: object) -> str:
    try:
        return msgspec.json.encode(request).decode()
    except (UnicodeEncodeError, TypeError):
        raise D1Error("D1_TYPE_ERROR: A text or value cannot be sent to the database.") from None


def _to_json(value: Value) -> object:
    return {_BYTES_KEY: b64encode(value).decode()} if isinstance(value, bytes) else value
