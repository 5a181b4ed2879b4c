"""Workers that take time, memory, stack, log and handles without end, or die: each is ended, and nobody else is."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.server import Reply
from tests.hostile.site import Site, check_refused

QUICK = {"cpu_ms": 300, "wall_ms": 60_000, "host_calls_max": 3_000, "memory_bytes": 64 << 20}
"""Limits that are hit soon, but for time that passes anyway: on a busy machine that is much."""


@pytest.fixture(scope="module")
def attacker(site: Site) -> str:
    site.deploy("attacker", **QUICK)
    assert site.call("attacker", "work?1").status == 200 or site.call("attacker", "work?0").status == 200
    return "attacker"


@pytest.fixture(scope="module")
def sleeper(site: Site) -> str:
    """A tenant whose wall-clock limit is the one that it meets."""
    site.deploy("sleeper", **{**QUICK, "cpu_ms": 60_000, "wall_ms": 1_500, "host_calls_max": 100_000})
    return "sleeper"


@pytest.mark.parametrize(
    ("attack", "status", "code"),
    [
        ("loop", 503, "limit.cpu"),
        ("loop_in_regex", 503, "limit.cpu"),
        ("loop_in_power", 503, "limit.cpu"),
        ("wall_clock_by_clock", 503, "limit.cpu"),
        ("host_calls_between_waits", 503, "limit.cpu"),
        ("host_calls", 503, "limit.host_calls"),
        ("one_allocation", 503, "limit.memory"),
        ("many_allocations", 503, "limit.memory"),
        ("growing_text", 503, "limit.memory"),
        ("log_flood", 503, "limit.host_calls"),
    ],
)
def test_what_has_no_end_is_ended_at_its_limit(site: Site, attacker: str, attack: str, status: int, code: str) -> None:
    reply = site.attack(lambda: site.call(attacker, attack))

    check_refused(reply, status, code)
    assert site.logged(attacker, f"[{code}]")


@pytest.mark.parametrize("attack", ["sleep_a_year", "wait_for_nothing", "print_flood"])
def test_what_only_takes_time_is_ended_too(site: Site, sleeper: str, attack: str) -> None:
    reply = site.attack(lambda: site.call(sleeper, attack))

    check_refused(reply, 504, "limit.wall")
    assert site.logged(sleeper, "[limit.wall]")


def test_recursion_without_end_is_an_exception_of_the_workers(site: Site, attacker: str) -> None:
    reply = site.attack(lambda: site.call(attacker, "recursion"))

    check_refused(reply, 500, "exception")
    assert site.logged(attacker, "RecursionError")


@pytest.mark.parametrize("attack", ["recursion_without_a_limit", "recursion_in_c"])
def test_a_stack_that_is_used_up_ends_the_call(site: Site, attacker: str, attack: str) -> None:
    reply = site.attack(lambda: site.call(attacker, attack))

    check_refused(reply, 500, "trap")
    assert "call stack is exhausted" in reply.text


@pytest.mark.parametrize(
    ("attack", "status", "code"),
    [
        ("abort", 500, "trap"),
        ("exit?0", 500, "trap"),
        ("exit?1", 500, "trap"),
        ("exit_by_exception", 500, "exception"),
        ("forged_handle?1", 500, "trap"),
        ("forged_handle?4294967295", 500, "trap"),
        ("dropped_handle", 500, "trap"),
        ("given_away_handle", 500, "trap"),
        ("handles_without_end", 500, "trap"),
    ],
)
def test_a_worker_that_dies_or_forges_handles_ends_alone(
    site: Site, attacker: str, attack: str, status: int, code: str
) -> None:
    reply = site.attack(lambda: site.call(attacker, attack))

    check_refused(reply, status, code)
    assert site.call(attacker, "work?4").status == 200


def test_a_body_that_was_kept_is_gone_in_the_next_request(site: Site, attacker: str) -> None:
    def strike() -> Reply:
        assert site.call(attacker, "keep_body", body="x" * 100_000).text == "kept"
        return site.call(attacker, "use_kept_body", body="of another user")

    assert site.attack(strike).status == 500


def test_work_after_the_answer_ends_at_the_limit_too(site: Site, attacker: str) -> None:
    reply = site.attack(lambda: site.call(attacker, "loop_after_answer"))

    assert (reply.status, reply.text) == (202, "early")
    assert site.logged(attacker, "After the answer: Worker exceeded CPU time limit.")


def test_what_a_worker_logs_is_bounded_and_cannot_forge_a_line(site: Site, sleeper: str) -> None:
    before = site.server.log.stat().st_size

    site.attack(lambda: [site.call(sleeper, name) for name in ("print_flood", "log_flood", "log_one_giant")])
    site.call(sleeper, "log_injection")

    assert site.server.log.stat().st_size - before < 16 << 20
    assert site.logged(sleeper, "[limit.log]")
    assert site.logged(sleeper, "forged")
    assert not [entry for entry in site.log_entries("bystander") if "forged" in entry["message"]]
    assert "\x1b" not in site.server.log.read_text()


def test_huge_and_deep_arguments_of_host_calls_are_refused_at_once(site: Site) -> None:
    site.deploy("shouting", memory_bytes=256 << 20, cpu_ms=20_000)
    site.call("shouting", "work?0")

    replies = site.attack(lambda: [site.call("shouting", name) for name in ("huge_arguments", "deep_options")])

    for reply in replies:
        assert reply.status == 200, reply.text
        assert [name for name, told in reply.json().items() if not told.get("error")] in ([], ["r2.delete"])


def test_odd_options_are_the_workers_fault_and_not_the_hosts(site: Site) -> None:
    site.deploy("shouting")

    reply = site.attack(lambda: site.call("shouting", "odd_options"))

    assert reply.status == 200, reply.text
    assert {told["error"].partition(":")[0] for told in reply.json().values()} == {"TypeError", "RangeError"}
    assert site.server.logged("a host function failed") == []


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("arrays", {"ok": 7_500_012}),
        ("text", {"error": "Error: KV GET_BULK failed: 413 Total size of request exceeds the limit of 25MB"}),
        ("object", {"error": "RangeError: The body is larger than 33554432 bytes; read it in pieces."}),
        ("headers", {"ok": None}),
    ],
)
def test_what_is_dear_to_read_is_bounded_and_read_beside_others(site: Site, what: str, told: dict[str, object]) -> None:
    site.deploy("dear", cpu_ms=20_000)

    reply = site.attack(lambda: site.call("dear", f"dear_to_read?{what}"))

    assert reply.json() == [told] * 3


def test_a_tenant_with_a_hundred_loops_gets_one_tenants_share(site: Site) -> None:
    """100 endless loops at once, and the bystander beside them: see docs/security.md, "Fairness"."""
    site.deploy("crowd", cpu_ms=50, wall_ms=30_000, instances_max=100)

    def strike() -> list[Reply]:
        with ThreadPoolExecutor(100) as pool:
            return list(pool.map(lambda _: site.call("crowd", "loop"), range(100)))

    replies = site.attack(strike)

    assert {(reply.status, reply.json()["code"]) for reply in replies} <= {(503, "limit.cpu"), (504, "limit.wall")}


def test_state_is_kept_within_a_version_and_isolation_request_prevents_it(site: Site) -> None:
    site.deploy("reused")
    site.deploy("isolated", isolation="request")

    for name in ("reused", "isolated"):
        assert site.call(name, "remember?alice").json() == []

    assert site.call("reused", "remember?bob").json() == ["alice"]
    assert site.call("isolated", "remember?bob").json() == []


def test_clocks_are_coarse_and_can_be_frozen(site: Site) -> None:
    site.deploy("coarse")
    site.deploy("frozen", clock="frozen")

    coarse, frozen = site.call("coarse", "tick").json(), site.call("frozen", "tick").json()

    assert coarse["finest_ns"] is None or coarse["finest_ns"] >= 1_000_000
    assert (frozen["steps"], frozen["walls"]) == (1, 1)
    assert frozen["slept"] >= 29
    assert json.loads(site.call("frozen", "remember?x").text) == []
