from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from host_bindings.d1.database import Database, Statement, StatementResult, Value
from host_bindings.d1.errors import D1Error
from host_bindings.d1.limits import MIB, SqlLimits
from host_bindings.d1.service import SqlService

R = TypeVar("R")

QUICK = SqlLimits(request_ms=300, kill_grace_ms=200, database_bytes=4 * MIB, result_bytes=4 * MIB, result_rows=5_000)
"""Short deadlines and small stores, so that what runs into a limit does so soon."""


class Sql:
    """A service on an event loop of its own, and databases in it."""

    def __init__(self, directory: Path, service: SqlService, runner: asyncio.Runner) -> None:
        self.directory = directory
        self.service = service
        self._runner = runner
        self._count = itertools.count()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        return self._runner.run(work)

    def database(self, owner: str = "") -> DatabaseUnderTest:
        number = next(self._count)
        path = self.directory / (owner or f"owner-{number}") / f"database-{number}"
        return DatabaseUnderTest(self, path, Database(path, self.service))


class DatabaseUnderTest:
    """A database with blocking calls."""

    def __init__(self, sql: Sql, directory: Path, database: Database) -> None:
        self._sql = sql
        self.directory = directory
        self.database = database

    def query(self, sql: str, *params: Value) -> StatementResult:
        return self.batch((sql, *params))[-1]

    def rows(self, sql: str, *params: Value) -> list[list[Any]]:
        return self.query(sql, *params).rows

    def value(self, sql: str, *params: Value) -> Any:
        ((value,),) = self.rows(sql, *params)
        return value

    def batch(self, *statements: tuple[Any, ...]) -> list[StatementResult]:
        return self._sql.run(self.database.query([Statement(s[0], s[1:]) for s in statements]))

    def query_json(self, request: str) -> str:
        """The answer to a request in the contract's JSON."""

        async def asked() -> str:
            return await self.database.query_json(request)

        return self._sql.run(asked())

    def exec(self, sql: str) -> int:
        return self._sql.run(self.database.exec(sql)).count

    def error(self, sql: str, *params: Value) -> str:
        with pytest.raises(D1Error) as caught:
            self.query(sql, *params)
        return caught.value.message

    def batch_error(self, *statements: tuple[Any, ...]) -> str:
        with pytest.raises(D1Error) as caught:
            self.batch(*statements)
        return caught.value.message

    def exec_error(self, sql: str) -> str:
        with pytest.raises(D1Error) as caught:
            self.exec(sql)
        return caught.value.message


@contextlib.contextmanager
def running(directory: Path, limits: SqlLimits, processes: int = 2) -> Iterator[Sql]:
    """A service and its end."""
    with asyncio.Runner() as runner:
        service = SqlService(directory, processes, limits)
        yield Sql(directory, service, runner)
        runner.run(service.close())


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sql]:
    """One for all tests of a module; each makes its own databases."""
    with running(tmp_path_factory.mktemp("d1"), QUICK) as sql:
        yield sql


@pytest.fixture
def db(sql: Sql) -> DatabaseUnderTest:
    return sql.database()
