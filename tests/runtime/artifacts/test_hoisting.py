"""Shared core modules out of a component, and nothing else about it changed."""

from __future__ import annotations

import hashlib
import io

import pytest
import wasmtime
from wasmtime import component as wc

from runtime.artifacts.component import read_outline
from runtime.artifacts.hoisting import CODE_BYTES_MIN, HoistedModule, find_hoisted, write_rewritten
from runtime.artifacts.limits import UploadLimits
from runtime.engine.compile import CompileError, compile_component, configuration
from tests.components import raw_component
from tests.runtime.artifacts.workers import library, wasm, worker

MUCH_CODE = CODE_BYTES_MIN + 100


def hoist(data: bytes) -> tuple[tuple[HoistedModule, ...], bytes]:
    hoisted = find_hoisted(data, read_outline(data, UploadLimits()))
    rewritten = io.BytesIO()
    write_rewritten(data, hoisted, rewritten)
    return hoisted, rewritten.getvalue()


def names(data: bytes) -> tuple[set[str], set[str]]:
    """What a component imports and exports."""
    engine = wasmtime.Engine(configuration())
    kind = wc.Component(engine, data).type
    return set(kind.imports(engine)), set(kind.exports(engine))


def adder(constant: int, code_bytes: int = MUCH_CODE, more: str = "") -> str:
    """A component that exports `answer`; a large module of its own computes it."""
    return f"""(component
      {more}
      (core module $small (func (export "one") (result i32) (i32.const 1)))
      (core module $large
        (import "small" "one" (func $one (result i32)))
        (import "unused" "g" (global i32))
        (memory (export "memory") 1 3)
        (table (export "table") 2 funcref)
        (global $g (export "g") (mut i64) (i64.const -5))
        (func (export "answer") (result i32) (i32.add (call $one) (i32.const {constant})))
        (func (export "not used") (param f32 f64 externref) (result v128 funcref) unreachable)
        (func {"nop " * code_bytes}))
      (core module $last (import "large" "memory" (memory 1)) (import "large" "answer" (func (result i32))))
      (core instance $small (instantiate $small))
      (core module $globals (global (export "g") i32 (i32.const 7)))
      (core instance $unused (instantiate $globals))
      (core instance $large (instantiate $large
        (with "small" (instance $small)) (with "unused" (instance $unused))))
      (core instance $last (instantiate $last (with "large" (instance $large))))
      (func (export "answer") (result s32) (canon lift (core func $large "answer"))))"""


def run(data: bytes, hoisted: tuple[HoistedModule, ...], original: bytes) -> object:
    engine = wasmtime.Engine(configuration())
    store = wasmtime.Store(engine)
    store.set_epoch_deadline(1000)
    linker = wc.Linker(engine)
    with linker.root() as root:
        for module in hoisted:
            body = original[module.section.body : module.section.end]
            root.add_module(module.name, wasmtime.Module(engine, body))
    instance = linker.instantiate(store, wc.Component(engine, data))
    answer = instance.get_func(store, "answer")
    assert answer is not None
    return answer(store)


def test_a_large_module_becomes_an_import_named_by_its_content() -> None:
    original = wasm(worker(code_bytes=MUCH_CODE))

    hoisted, rewritten = hoist(original)

    (module,) = hoisted
    body = original[module.section.body : module.section.end]
    assert module.name == f"cloister-module-x{hashlib.sha256(body).hexdigest()}"
    assert len(rewritten) < len(original) - MUCH_CODE + 1000
    imports, exports = names(original)
    assert names(rewritten) == (imports | {module.name}, exports)


def test_a_hoisted_component_does_the_same() -> None:
    original = wasm(adder(41))

    hoisted, rewritten = hoist(original)

    assert len(hoisted) == 1
    assert run(rewritten, hoisted, original) == run(original, (), original) == 42


def test_only_the_exports_that_are_used_are_asked_for() -> None:
    hoisted, _ = hoist(wasm(adder(41)))

    assert b"answer" in hoisted[0].type
    assert b"memory" in hoisted[0].type
    assert b"not used" not in hoisted[0].type
    assert b"table" not in hoisted[0].type


def test_small_modules_stay() -> None:
    original = wasm(worker())

    assert hoist(original) == ((), original)


def test_the_second_copy_of_a_module_stays() -> None:
    module = library("one", MUCH_CODE).replace("$library", "")

    hoisted, rewritten = hoist(wasm(f"(component {module} {module})"))

    assert len(hoisted) == 1
    compile_component(rewritten)


def test_two_components_share_what_they_have_in_common() -> None:
    (one,), _ = hoist(wasm(worker("hello", code_bytes=MUCH_CODE)))
    (two,), _ = hoist(wasm(worker("good morning", code_bytes=MUCH_CODE)))

    assert one == two


@pytest.mark.parametrize(
    "more",
    [
        "(core type (module))",  # new core types would get in between
        '(component $c (core module (export "m"))) (instance $i (instantiate $c)) (alias export $i "m" (core module))',
    ],
)
def test_a_component_that_the_rewriting_does_not_know_still_works(more: str) -> None:
    original = wasm(adder(1, more=more))

    hoisted, rewritten = hoist(original)

    assert run(rewritten, hoisted, original) == 2


@pytest.mark.parametrize(
    "module",
    [
        "(core module (type (struct)) (func {code}))",
        '(core module (import "a" "b" (tag)) (func {code}))',
        "(core module (memory i64 1) (func {code}))",
    ],
)
def test_a_module_with_other_features_than_plain_ones_stays(module: str) -> None:
    original = wasm(worker(modules=module.format(code="nop " * MUCH_CODE)))

    assert hoist(original) == ((), original)


def test_a_use_that_is_not_seen_makes_the_component_invalid_and_never_different() -> None:
    nested = """
      (component $inner
        (alias outer 1 $large (core module $m))
        (core module $one (func (export "one") (result i32) (i32.const 1)))
        (core module $g (global (export "g") i32 (i32.const 7)))
        (core instance $o (instantiate $one))
        (core instance $g (instantiate $g))
        (core instance $i (instantiate $m (with "small" (instance $o)) (with "unused" (instance $g))))
        (alias core export $i "table" (core table $t)))
      (instance (instantiate $inner))
      (core instance $small (instantiate $small))"""
    original = wasm(adder(1).replace("(core instance $small (instantiate $small))", nested))
    compile_component(original)

    _, rewritten = hoist(original)

    with pytest.raises(CompileError, match="table"):
        compile_component(rewritten)


def test_of_what_componentize_py_makes_little_stays() -> None:
    original = raw_component("raw_worker").read_bytes()

    hoisted, rewritten = hoist(original)

    assert len(hoisted) == 4, "CPython, libc, componentize-py's runtime, and the memory with which they begin"
    assert len(rewritten) < 500_000
    assert names(rewritten)[0] - names(original)[0] == {module.name for module in hoisted}
