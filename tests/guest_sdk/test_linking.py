"""Linking a component's core modules into one: it does what it did before, and does it directly."""

from __future__ import annotations

from dataclasses import astuple

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st
from wasmtime import component as wc

from guest_sdk.build import BuildError
from guest_sdk.build.binary import Unknown, read_layout
from guest_sdk.build.linking import core_module, link
from guest_sdk.build.linking.instructions import CALL, CALL_INDIRECT, GLOBAL_GET, find_uses

LIBRARIES = """
(component
  (import "report" (func $report (param "value" string)))
  (core module $shim
    (type $two (func (param i32 i32)))
    (table (export "$imports") 1 1 funcref)
    (func (export "0") (param i32 i32)
      local.get 0 local.get 1 i32.const 0 call_indirect (type $two)))
  (core instance $shim (instantiate $shim))
  (core module $env
    (type $one (func (param i32) (result i32)))
    (memory (export "memory") 1)
    (table (export "table") 4 funcref)
    (data (i32.const 64) "report")
    (global (export "base") i32 (i32.const 64))
    (global (export "address") (mut i32) (i32.const 4096))
    (global (export "stack") (mut i32) (i32.const 1000))
    (global (export "wide") (mut i64) (i64.const -5))
    (func (export "triple") (param i32) (result i32)
      local.get 0 i32.const 2 call_indirect (type $one)))
  (core instance $env (instantiate $env))
  (core module $library
    (type $one (func (param i32) (result i32)))
    (import "env" "memory" (memory 1))
    (import "env" "base" (global $base i32))
    (import "env" "address" (global $address (mut i32)))
    (import "env" "stack" (global $stack (mut i32)))
    (import "env" "wide" (global $wide (mut i64)))
    (import "env" "triple" (func $triple (type $one)))
    (import "shim" "0" (func $report (param i32 i32)))
    (global $derived i32 (i32.add (global.get $base) (i32.const 2)))
    (func $unused (result i32) unreachable)
    (func (export "double") (type $one) local.get 0 i32.const 2 i32.mul)
    (func (export "compute") (param i32) (result i32) (local f64)
      global.get $stack local.get 0 i32.sub global.set $stack
      f64.const 2.5 local.set 1
      block (result i32)
        local.get 0
        loop $again (param i32) (result i32)
          i32.const 1 i32.add
          local.tee 0
          local.get 0 i32.const 40 i32.lt_s br_if $again
        end
      end
      call $triple
      global.get $stack i32.add
      global.get $address i32.add
      local.get 1 i32.trunc_f64_s i32.add
      global.get $wide i32.wrap_i64 i32.add
      (block $b (block $a (br_table $a $b (i32.const 7)))))
    (func (export "tell") global.get $derived i32.const 2 i32.sub i32.const 6 call $report))
  (core instance $library (instantiate $library (with "env" (instance $env)) (with "shim" (instance $shim))))
  (core module $init
    (type $one (func (param i32) (result i32)))
    (import "env" "table" (table 4 funcref))
    (import "library" "double" (func $double (type $one)))
    (func $triple (type $one) local.get 0 call $double local.get 0 i32.add)
    (elem (i32.const 1) func $double $triple))
  (core instance (instantiate $init (with "env" (instance $env)) (with "library" (instance $library))))
  (alias core export $env "memory" (core memory $memory))
  (core func $lowered (canon lower (func $report) (memory $memory)))
  (alias core export $shim "$imports" (core table $imports))
  (core instance $fixes (export "$imports" (table $imports)) (export "0" (func $lowered)))
  (core module $fix
    (import "" "0" (func (param i32 i32)))
    (import "" "$imports" (table 1 1 funcref))
    (elem (i32.const 0) func 0))
  (core instance (instantiate $fix (with "" (instance $fixes))))
  (func (export "compute") (param "value" u32) (result u32)
    (canon lift (core func $library "compute")))
  (func (export "tell") (canon lift (core func $library "tell"))))
"""


def component(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def run(made: bytes, value: int) -> tuple[list[str], list[int]]:
    """What the component reports to the host, and what it computes twice."""
    engine = wasmtime.Engine()
    linker = wc.Linker(engine)
    reported: list[str] = []
    with linker.root() as root:
        root.add_func("report", lambda _store, text: reported.append(text))
    store = wasmtime.Store(engine)
    instance = linker.instantiate(store, wc.Component(engine, made))
    tell, compute = instance.get_func(store, "tell"), instance.get_func(store, "compute")
    assert tell is not None and compute is not None
    tell(store)
    return reported, [compute(store, value), compute(store, value)]


def names_of_functions(made: bytes) -> set[bytes]:
    return set(core_module.read(made, *read_layout(made).modules[0]).function_names.values())


@pytest.mark.parametrize("value", [0, 3, 39, 40, 1000])
def test_a_linked_component_does_what_it_did(value: int) -> None:
    before = component(LIBRARIES)

    after = link(before, ["memory"])

    assert run(after, value) == run(before, value)
    assert run(after, value)[0] == ["report"]


def test_what_can_be_merged_is_one_module_without_constants_and_unused_functions() -> None:
    made = link(component(LIBRARIES), ["memory"])

    merged, _fixes = (core_module.read(made, *place) for place in read_layout(made).modules)

    assert merged.imports == []
    assert [one.value.number for one in merged.globals] == [1000]
    # $shim's, $double, compute, tell, $triple: neither the trampoline in $env nor what nobody calls.
    assert len(merged.functions) == 5


def test_calls_through_a_table_that_nobody_changes_are_direct() -> None:
    made = link(component(LIBRARIES), ["memory"])
    merged = core_module.read(made, *read_layout(made).modules[0])

    opcodes = [[use.opcode for use in find_uses(body)] for body in merged.bodies]

    # Only the shim's table is filled later.
    assert sum(one.count(CALL_INDIRECT) for one in opcodes) == 1


def test_names_of_functions_are_kept_for_the_traces_of_crashes() -> None:
    made = link(component(LIBRARIES), ["memory"])

    assert set(core_module.read(made, *read_layout(made).modules[0]).function_names.values()) == {b"triple"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(func $unused (result i32) unreachable)", "(func $unused unreachable) (start $unused)"),
        ('(data (i32.const 64) "report")', '(data "passive")'),
        ("local.get 0 i32.const 2 i32.mul)", "v128.const i64x2 1 2 i64x2.extract_lane 0 i32.wrap_i64)"),
        ("local.get 0 i32.const 2 i32.mul)", 'ref.func $double drop local.get 0) (export "d" (func $double))'),
        ("(global $derived i32", "(memory 1) (global $derived i32"),
    ],
    ids=["start", "passive data", "vectors", "references", "memories"],
)
def test_what_is_not_known_is_refused(old: str, new: str) -> None:
    assert old in LIBRARIES
    text = LIBRARIES.replace(old, new).replace('(func (export "double")', '(func $double (export "double")')

    with pytest.raises(BuildError, match="cannot link"):
        link(component(text), ["memory"])


def test_a_module_with_two_instances_is_refused() -> None:
    text = LIBRARIES.replace("(core instance $env (", "(core instance (instantiate $env)) (core instance $env (")

    with pytest.raises(BuildError, match="cannot link"):
        link(component(text), ["memory"])


def test_an_export_that_is_not_there_is_refused() -> None:
    with pytest.raises(BuildError, match="cannot link"):
        link(component(LIBRARIES), ["memory", "reset"])


def leb(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))


NUMBERS = st.integers(0, 2**32 - 1)
OTHERS = st.one_of(
    st.sampled_from([b"\x00", b"\x01", b"\x05", b"\x0b", b"\x0f", b"\x1a", b"\x1b", b"\xd1", b"\x02\x40", b"\x03\x7f"]),
    st.sampled_from([b"\x3f\x00", b"\x40\x00", b"\xfc\x03", b"\xfc\x0a\x00\x00", b"\xfc\x0b\x00", b"\x1c\x01\x7e"]),
    st.integers(0x45, 0xC4).map(lambda opcode: bytes((opcode,))),
    st.tuples(st.sampled_from([0x0C, 0x0D, 0x20, 0x21, 0x22, 0x41, 0x42]), NUMBERS).map(
        lambda a: bytes((a[0],)) + leb(a[1])
    ),
    st.tuples(st.integers(0x28, 0x3E), st.integers(0, 3), NUMBERS).map(lambda a: bytes(a[:2]) + leb(a[2])),
    st.binary(min_size=4, max_size=4).map(lambda value: b"\x43" + value),
    st.binary(min_size=8, max_size=8).map(lambda value: b"\x44" + value),
    st.lists(NUMBERS, max_size=4).map(lambda labels: b"\x0e" + leb(len(labels)) + b"".join(map(leb, (*labels, 0)))),
)
INDEXED = st.one_of(
    st.tuples(st.sampled_from([CALL, GLOBAL_GET, 0x24]), NUMBERS, st.just(0)),
    st.tuples(st.just(CALL_INDIRECT), NUMBERS, NUMBERS),
    # A type's index, which is signed.
    st.tuples(st.sampled_from([0x02, 0x03, 0x04]), st.integers(64, 2**30), st.just(0)).map(
        lambda a: (a[0], a[1] & ~0x40, 0) if a[1] & ~0x40 >= 128 else (a[0], 128, 0)
    ),
)


@given(st.lists(st.one_of(OTHERS, INDEXED), max_size=40), st.integers(0, 3))
@settings(max_examples=300)
def test_instructions_with_an_index_are_found_among_others(
    instructions: list[bytes | tuple[int, int, int]], count: int
) -> None:
    code = leb(count) + b"\x05\x7f" * count
    expected = []
    for one in instructions:
        encoded = one
        if isinstance(one, tuple):
            opcode, index, table = one
            encoded = bytes((opcode,)) + leb(index) + (leb(table) if opcode == CALL_INDIRECT else b"")
            expected.append((len(code), len(code) + len(encoded), opcode, index, table))
        assert isinstance(encoded, bytes)
        code += encoded

    assert [astuple(use) for use in find_uses(code)] == expected


@pytest.mark.parametrize(
    "instruction", [b"\xd2\x00", b"\xfd\x0c", b"\x08\x00", b"\xfc\x08\x00\x00", b"\x28\x42\x01\x00"]
)
def test_an_instruction_that_is_not_known_is_not_passed_over(instruction: bytes) -> None:
    with pytest.raises(Unknown):
        find_uses(b"\x00\x01" + instruction + b"\x0b")
