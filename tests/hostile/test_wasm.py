"""Attacks that no Python source can express: core WebAssembly behind the contract, written as text."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hostile.site import Site, check_refused
from tests.runtime.artifacts.workers import wasm, worker, worker_with_a_resource_of_its_own

TIMERS = """
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $timer (eq $outer)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $timer))))))"""


def timers(first: str = "", more: str = "", **parts: str) -> dict[str, Any]:
    """A worker that has timers: `$timer` makes one, `$poll` waits, `$drop` drops one; `$one` keeps one."""
    return {
        "imports": TIMERS,
        "host": {
            "timer": '(canon lower (func $clock "subscribe-duration"))',
            "poll": '(canon lower (func $poll "poll") (memory $memory) (realloc $realloc))',
            "drop": "(canon resource.drop $pollable)",
        },
        "definitions": """
          (import "host" "timer" (func $timer (param i64) (result i32)))
          (import "host" "poll" (func $poll (param i32 i32 i32)))
          (import "host" "drop" (func $drop (param i32)))
          (global $n (mut i32) (i32.const 0))
          (global $one (mut i32) (i32.const 0))"""
        + more,
        "first": first,
        **parts,
    }


def polling(handle: str, count: int) -> dict[str, Any]:
    """Waits for `count` handles, each of which comes from `handle`."""
    return timers(f"""
      (drop (memory.grow (i32.const 100)))
      (global.set $one (call $timer (i64.const -1)))
      (loop $next
        (i32.store (i32.add (i32.const 65536) (i32.mul (global.get $n) (i32.const 4))) {handle})
        (global.set $n (i32.add (global.get $n) (i32.const 1)))
        (br_if $next (i32.lt_u (global.get $n) (i32.const {count}))))
      (call $poll (i32.const 65536) (i32.const {count}) (i32.const 256))""")


def after_return(does: str) -> dict[str, Any]:
    return timers(more=f'(func (export "after") (param i32) {does})', options='(post-return (core func $main "after"))')


def random_bytes(count: int) -> dict[str, Any]:
    return {
        "imports": """(import "wasi:random/random@0.2.0" (instance $random
          (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))""",
        "host": {"random": '(canon lower (func $random "get-random-bytes") (memory $memory) (realloc $realloc))'},
        "definitions": '(import "host" "random" (func $random (param i64 i32)))',
        "first": f"(call $random (i64.const {count}) (i32.const 256))",
    }


ATTACKS = {
    "endless loop": ("", "(loop $again (br $again))", 503, "limit.cpu"),
    "endless recursion": ("(func $deeper (call $deeper))", "(call $deeper)", 500, "trap"),
    "recursion with large frames": (
        "(func $deeper (param i64 i64 i64 i64 i64 i64 i64 i64) "
        + "(call $deeper "
        + " ".join(f"(i64.add (local.get {n}) (i64.const 1))" for n in range(8))
        + "))",
        "(call $deeper " + "(i64.const 0)" * 8 + ")",
        500,
        "trap",
    ),
    "memory that grows until it cannot": (
        "(memory $more 1)",
        "(loop $again (br_if $again (i32.ne (memory.grow $more (i32.const 16)) (i32.const -1)))) unreachable",
        500,
        "trap",
    ),
    "memory that grows for ever": (
        "(memory $more 1)",
        "(loop $again (drop (memory.grow $more (i32.const 1))) (br $again))",
        503,
        "limit.cpu",
    ),
    "a table that grows until it cannot": (
        "(table $t 1 funcref)",
        "(loop $again (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) "
        "unreachable",
        500,
        "trap",
    ),
    "a table that grows by all at once": (
        "(table $t 1 funcref)",
        "(drop (table.grow $t (ref.null func) (i32.const 50000000))) unreachable",
        500,
        "trap",
    ),
    "an address outside of the memory": ("", "(drop (i32.load (i32.const -4)))", 500, "trap"),
    "an address far outside of the memory": ("", "(drop (i64.load offset=4294967288 (i32.const -1)))", 500, "trap"),
    "a call of nothing": (
        "(type $f (func)) (table $t 10 funcref)",
        "(call_indirect $t (type $f) (i32.const 5))",
        500,
        "trap",
    ),
    "a call with the wrong type": (
        "(type $f (func)) (table $t 1 funcref) (func $g (result i64) (i64.const 1)) (elem (table $t) (i32.const 0) "
        "func $g)",
        "(call_indirect $t (type $f) (i32.const 0))",
        500,
        "trap",
    ),
    "a division by zero": ("", "(drop (i32.div_u (i32.const 1) (i32.const 0)))", 500, "trap"),
    "an answer outside of the memory": ("", "(return (i32.const -16))", 500, "trap"),
    "an answer of an unknown case": ("", "(i32.store8 (i32.const 16) (i32.const 7))", 500, "trap"),
    "an answer with a text of 4 GiB": ("", "(i32.store (i32.const 36) (i32.const -1))", 500, "trap"),
    "an answer with a text outside of the memory": ("", "(i32.store (i32.const 32) (i32.const -2))", 500, "trap"),
}


@pytest.mark.parametrize(("definitions", "first", "status", "code"), ATTACKS.values(), ids=ATTACKS)
def test_raw_wasm_ends_its_own_call_alone(site: Site, definitions: str, first: str, status: int, code: str) -> None:
    component = wasm(worker(definitions=definitions, first=first))
    site.deploy("raw", (), component, cpu_ms=200, memory_bytes=16 << 20)

    reply = site.attack(lambda: site.call("raw", ""))

    check_refused(reply, status, code)


BOUNDARY = {
    "an allocator that gives what is outside of the memory": ({"realloc": "(i32.const -16)"}, 500, "trap"),
    "an allocator that gives the same each time": ({"realloc": "(i32.const 0)"}, 500, "trap"),
    "an allocator that traps": ({"realloc": "unreachable"}, 500, "trap"),
    "an allocator that never returns": ({"realloc": "(loop $again (br $again)) unreachable"}, 503, "limit.cpu"),
    "a loop after the answer has been taken": (after_return("(loop $again (br $again))"), 503, "limit.cpu"),
    "a host call after the answer has been taken": (after_return("(drop (call $timer (i64.const 1)))"), 500, "trap"),
    "a text of another encoding, out of line": (
        {"options": "string-encoding=utf16", "first": "(i32.store (i32.const 36) (i32.const 129))"},
        500,
        "trap",
    ),
    "as many random bytes as there are numbers": (random_bytes(-1), 500, "trap"),
    "a timer that ends when the sun does": (polling("(call $timer (i64.const -1))", 1), 504, "limit.wall"),
    "a handle that is none among a million": (polling("(i32.const 77)", 1_000_000), 500, "trap"),
    "one timer a million times": (polling("(global.get $one)", 1_000_000), 500, "trap"),
    "timers without end": (polling("(call $timer (i64.const 1))", 1_000_000), 500, "trap"),
    "a timer that is dropped twice": (
        timers("(global.set $one (call $timer (i64.const 1)))" + "(call $drop (global.get $one))" * 2),
        500,
        "trap",
    ),
}


@pytest.mark.parametrize(("parts", "status", "code"), BOUNDARY.values(), ids=BOUNDARY)
def test_what_raw_wasm_does_at_the_boundary_ends_its_own_call_alone(
    site: Site, parts: dict[str, Any], status: int, code: str
) -> None:
    site.deploy("raw", (), wasm(worker(**parts)), cpu_ms=200, wall_ms=2_000, memory_bytes=16 << 20)

    reply = site.attack(lambda: site.call("raw", ""))

    check_refused(reply, status, code)


def test_a_handler_with_a_resource_of_the_workers_own_is_refused(site: Site) -> None:
    reply = site.attack(lambda: site.server.deploy("raw", wasm(worker_with_a_resource_of_its_own())))

    assert reply.status == 400, reply.text
    assert "stream(own<a resource of its own>)" in reply.json()["errors"][0]["message"]


DECLARED = {
    "a memory of 4 GiB": "(core module $huge (memory 65536)) (core instance (instantiate $huge))",
    "forty memories": f"(core module $huge {'(memory 1)' * 40}) (core instance (instantiate $huge))",
    "a table of ten million": "(core module $huge (table 10000000 funcref)) (core instance (instantiate $huge))",
    "a hundred tables": f"(core module $huge {'(table 1 funcref)' * 100}) (core instance (instantiate $huge))",
    "three hundred instances": "(core module $small)" + "(core instance (instantiate $small))" * 300,
    "a start function that loops": "(core module $loop (func $run (loop $again (br $again))) (start $run))"
    "(core instance (instantiate $loop))",
    "a start function that traps": "(core module $trap (func $run unreachable) (start $run))"
    "(core instance (instantiate $trap))",
}


@pytest.mark.parametrize("modules", DECLARED.values(), ids=DECLARED)
def test_what_a_component_declares_is_refused_or_does_not_start(site: Site, modules: str) -> None:
    component = wasm(worker(modules=modules))
    reply = site.server.deploy("declared", component, limits={"cpu_ms": 200, "memory_bytes": 16 << 20})
    if reply.status != 200:
        assert (reply.status, reply.json()["errors"][0]["code"]) == (400, 10021), reply.text
        return

    reply = site.attack(lambda: site.call("declared", ""))

    assert reply.status == 503
    check_refused(reply, 503, reply.json()["code"])
