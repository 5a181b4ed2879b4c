"""What a guest's calls of `d1` answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_bindings.context import GuestContext
from host_bindings.contract import FAILURE, Failure, ResultOf, String
from host_bindings.d1 import binding as d1
from host_bindings.d1.binding import INTERFACE
from host_bindings.d1.service import SqlService
from host_bindings.scope import Binding, Resources, Tenant
from tests.host_bindings.d1.conftest import QUICK


class Guests:
    """Two tenants with the same binding name and the same resource id."""

    def __init__(self, directory: Path, runner: asyncio.Runner) -> None:
        self._runner = runner
        self.service = SqlService(directory, processes=1, limits=QUICK)
        resources = Resources(directory, self.service)
        bindings = [Binding("d1", "DB", resource_id="same"), Binding("plain_text", "TEXT", value="x")]
        self.first, self.second = (
            GuestContext(resources.scope(Tenant("production", script), bindings), lambda level, message: None)
            for script in ("first", "second")
        )

    def query(self, guest: GuestContext, binding: str, request: str) -> str:
        async def asked() -> str:
            return await d1.query(guest, binding, request)

        return self._runner.run(asked())

    def exec(self, guest: GuestContext, binding: str, sql: str) -> str:
        async def asked() -> str:
            return await d1.exec(guest, binding, sql)

        return self._runner.run(asked())


@pytest.fixture
def guests(tmp_path: Path) -> Iterator[Guests]:
    with asyncio.Runner() as runner:
        pair = Guests(tmp_path, runner)
        yield pair
        runner.run(pair.service.close())


def test_the_interface_is_that_of_the_contract() -> None:
    assert INTERFACE.name == "cloister:worker/d1@0.1.0"
    assert [function.name for function in INTERFACE.functions] == ["query", "exec"]
    assert [function.implementation for function in INTERFACE.functions] == [d1.query, d1.exec]
    for function in INTERFACE.functions:
        assert function.parameters == (String, String)
        assert function.result == ResultOf(String, FAILURE)
        assert function.may_wait


def test_query_takes_and_gives_the_contracts_json(guests: Guests) -> None:
    assert json.loads(guests.exec(guests.first, "DB", "CREATE TABLE t (a, b)"))["count"] == 1
    request = {
        "statements": [
            {"sql": "INSERT INTO t VALUES (?, ?)", "params": [9007199254740993, {"$bytes": "AP8="}]},
            {"sql": "SELECT a, b, 2.0 FROM t"},
        ]
    }

    inserted, selected = json.loads(guests.query(guests.first, "DB", json.dumps(request)))

    assert inserted["meta"]["changes"] == 1
    assert selected["columns"] == ["a", "b", "2.0"]
    assert selected["rows"] == [[9007199254740993, {"$bytes": "AP8="}, 2.0]]


def test_a_failure_has_the_class_and_text_of_d1(guests: Guests) -> None:
    with pytest.raises(Failure) as query_failure:
        guests.query(guests.first, "DB", '{"statements": [{"sql": "SELEKT"}]}')
    with pytest.raises(Failure) as exec_failure:
        guests.exec(guests.first, "DB", "SELEKT")

    assert query_failure.value.name == exec_failure.value.name == "Error"
    assert query_failure.value.message.startswith('D1_ERROR: near "SELEKT": syntax error')
    assert exec_failure.value.message.startswith("D1_EXEC_ERROR: Error in line 1: SELEKT: ")


def test_tenants_that_name_the_same_database_have_two(guests: Guests) -> None:
    guests.exec(guests.first, "DB", "CREATE TABLE secrets (a)")

    with pytest.raises(Failure, match="no such table"):
        guests.exec(guests.second, "DB", "SELECT * FROM secrets")


@pytest.mark.parametrize("binding", ["TEXT", "OTHER", "", "../DB"])
def test_a_name_that_is_no_database_binding_fails(guests: Guests, binding: str) -> None:
    with pytest.raises(Failure, match="no D1 database bound"):
        guests.query(guests.first, binding, "{}")
