"""Live tails: events of one tenant's calls, for those who watch it, whichever process served them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import pytest

from runtime.telemetry.meters import TenantKey
from runtime.telemetry.tail import EVENTS_WAITING_MAX, TAILS_PER_TENANT_MAX, CalledEvent, Filters, Tails

ACME, OTHER = TenantKey("production", "acme"), TenantKey("production", "other")

CALL = CalledEvent(
    version="v1",
    request_id="r-1",
    outcome="ok",
    method="GET",
    url="http://host/path?x=1",
    headers="accept: */*\nauthorization: Bearer hidden\nx-api-key: hidden\ncookie: hidden\n",
    rpc_method="",
    status=200,
    exception=None,
    cpu_ns=1_500_000,
    started_ns=perf_counter_ns(),
)


def run(tmp_path: Path, test: Callable[[Tails, Tails], Awaitable[None]]) -> None:
    """Runs a test with the tails of two processes that share a folder."""

    async def main() -> None:
        one, two = Tails(tmp_path / "tails.sqlite"), Tails(tmp_path / "tails.sqlite")
        await one.open()
        await two.open()
        try:
            await asyncio.wait_for(test(one, two), 60)
        finally:
            await one.close()
            await two.close()

    asyncio.run(main())


async def noticed(tails: Tails, key: TenantKey) -> None:
    while not tails.wanted(key):
        await asyncio.sleep(0.01)


async def next_event(tails: Tails, id: str) -> dict[str, Any]:
    async for event in tails.events(id):
        return dict(json.loads(event))
    raise AssertionError("the tail has ended")


def test_an_event_has_what_the_call_was_and_what_it_logged(tmp_path: Path) -> None:
    async def test(one: Tails, _two: Tails) -> None:
        tail = await one.create(ACME, Filters())
        one.logged(ACME, "r-1", "info", "printed")
        one.logged(ACME, "r-1", "error", "logged")
        one.logged(ACME, "r-2", "info", "of another request")
        one.called(ACME, replace(CALL, outcome="exception", exception=("ValueError", "bad", "Traceback"), status=0))

        event = await next_event(one, tail.id)

        assert (event["scriptName"], event["outcome"], event["requestId"]) == ("acme", "exception", "r-1")
        assert [(log["level"], log["message"]) for log in event["logs"]] == [
            ("log", ["printed"]),
            ("error", ["logged"]),
        ]
        assert [(e["name"], e["message"], e["stack"]) for e in event["exceptions"]] == [
            ("ValueError", "bad", "Traceback")
        ]
        assert (event["event"]["request"]["method"], event["event"]["request"]["url"]) == ("GET", CALL.url)
        assert event["cpuTime"] == 1.5

    run(tmp_path, test)


def test_credentials_of_callers_are_not_shown(tmp_path: Path) -> None:
    async def test(one: Tails, _two: Tails) -> None:
        tail = await one.create(ACME, Filters())
        one.called(ACME, CALL)

        event = await next_event(one, tail.id)

        assert event["event"]["request"]["headers"]["accept"] == "*/*"
        assert "hidden" not in json.dumps(event)

    run(tmp_path, test)


def test_a_tail_shows_calls_that_another_process_served(tmp_path: Path) -> None:
    async def test(one: Tails, two: Tails) -> None:
        tail = await one.create(ACME, Filters())
        await noticed(two, ACME)
        two.called(ACME, replace(CALL, rpc_method="get_data", method="", url=""))

        event = await next_event(one, tail.id)

        assert event["event"] == {"rpcMethod": "get_data"}

    run(tmp_path, test)


def test_a_tail_shows_no_other_tenants_calls(tmp_path: Path) -> None:
    async def test(one: Tails, _two: Tails) -> None:
        tail = await one.create(ACME, Filters())
        assert not one.wanted(OTHER)
        one.logged(OTHER, "r-1", "info", "secret of another")
        one.called(OTHER, CALL)
        one.called(ACME, replace(CALL, request_id="mine"))

        event = await next_event(one, tail.id)

        assert (event["requestId"], event["logs"]) == ("mine", [])

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        (Filters(outcomes=("ok",)), True),
        (Filters(outcomes=("exception", "exceededCpu")), False),
        (Filters(methods=("GET",)), True),
        (Filters(methods=("POST",)), False),
        (Filters(statuses=(200,)), True),
        (Filters(statuses=(2,)), True),
        (Filters(statuses=(4, 500)), False),
        (Filters(text="needle"), True),
        (Filters(text="path?x"), True),
        (Filters(text="absent"), False),
        (Filters(header=("Accept", "*")), True),
        (Filters(header=("accept", "json")), False),
        (Filters(header=("authorization", "hidden")), False),
        (Filters(version="v1"), True),
        (Filters(version="v2"), False),
    ],
)
def test_filters_choose(tmp_path: Path, filters: Filters, fits: bool) -> None:
    async def test(one: Tails, _two: Tails) -> None:
        tail = await one.create(ACME, filters)
        await one.create(ACME, Filters())
        one.logged(ACME, "r-1", "info", "a needle")
        one.called(ACME, CALL)
        await one.set_filters(tail.id, Filters())
        one.called(ACME, replace(CALL, request_id="r-2"))

        event = await next_event(one, tail.id)

        assert event["requestId"] == ("r-1" if fits else "r-2")

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        (Filters(statuses=(504,)), True),
        (Filters(statuses=(5,)), True),
        (Filters(statuses=(200, 4)), False),
        (Filters(outcomes=("unknown",)), True),
        (Filters(outcomes=("exceededWallTime",)), True),
        (Filters(outcomes=("exception",)), False),
    ],
)
def test_a_call_without_an_answer_has_the_status_of_its_error_and_an_outcome_that_clients_know(
    tmp_path: Path, filters: Filters, fits: bool
) -> None:
    failed = replace(CALL, outcome="exceededWallTime", status=0, error_status=504)

    async def test(one: Tails, _two: Tails) -> None:
        tail = await one.create(ACME, filters)
        await one.create(ACME, Filters())
        one.called(ACME, failed)
        await one.set_filters(tail.id, Filters())
        one.called(ACME, replace(failed, request_id="r-2"))

        event = await next_event(one, tail.id)

        assert event["requestId"] == ("r-1" if fits else "r-2")
        assert "response" not in event["event"]

    run(tmp_path, test)


def test_a_closed_tail_ends_and_nobody_collects_for_it(tmp_path: Path) -> None:
    async def test(one: Tails, two: Tails) -> None:
        tail = await one.create(ACME, Filters())
        await noticed(two, ACME)
        assert await one.delete(tail.id)

        assert [event async for event in one.events(tail.id)] == []
        assert await one.find(tail.id) is None
        while two.wanted(ACME):
            await asyncio.sleep(0.01)

    run(tmp_path, test)


def test_a_tenant_has_so_many_tails_and_no_more(tmp_path: Path) -> None:
    async def test(one: Tails, _two: Tails) -> None:
        for _ in range(TAILS_PER_TENANT_MAX):
            await one.create(ACME, Filters())

        with pytest.raises(ValueError, match="tails of this worker"):
            await one.create(ACME, Filters())
        await one.create(OTHER, Filters())

    run(tmp_path, test)


def test_a_flood_is_cut_and_says_so(tmp_path: Path) -> None:
    async def test(one: Tails, _two: Tails) -> None:
        tail = await one.create(ACME, Filters())
        for number in range(EVENTS_WAITING_MAX + 10):
            one.called(ACME, replace(CALL, request_id=f"r-{number}"))
        seen = 0
        async for _ in one.events(tail.id):
            seen += 1
            if seen == EVENTS_WAITING_MAX:
                break
        one.called(ACME, CALL)

        assert (await next_event(one, tail.id))["leftOut"] == 10

    run(tmp_path, test)
