"""Attacks that no Python source can express: core WebAssembly behind the contract, written as text."""

from __future__ import annotations

import pytest

from tests.hostile.site import Site, check_refused
from tests.runtime.artifacts.workers import wasm, worker

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
