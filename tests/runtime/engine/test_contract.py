"""What an upload is compared with: the imports and exports of real components against the contract."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

from host_bindings.interfaces import ALL
from runtime.engine.compile import compile_component, contract_problems


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "component.cwasm"
    path.write_bytes(compile_component(bytes(wasmtime.wat2wasm(text))))
    return contract_problems(path, ALL)


def test_a_worker_of_the_toolchain_has_no_problems(raw_code):
    assert contract_problems(raw_code, ALL) == []


def test_a_component_without_the_handler_is_not_a_worker(tmp_path):
    assert problems(tmp_path, "(component)") == [
        "The component does not export cloister:worker/handler@0.1.0: it is not a worker."
    ]


@pytest.mark.parametrize(
    ("imported", "expected"),
    [
        ('(import "wasi:http/outgoing-handler@0.2.0" (instance))', "imports wasi:http/outgoing-handler@0.2.0, which"),
        ('(import "host" (func))', "imports host, which"),
        ('(import "cloister-module-x" (core module))', "imports cloister-module-x, which"),
        (
            '(import "cloister:worker/kv@0.1.0" (instance (export "drop-everything" (func))))',
            "imports cloister:worker/kv@0.1.0#drop-everything, which",
        ),
        (
            '(import "cloister:worker/environment@0.1.0" (instance (export "bindings" (func (result u64)))))',
            "imports cloister:worker/environment@0.1.0#bindings as func() -> u64; this host offers func() -> string",
        ),
        (
            '(import "cloister:worker/environment@0.2.0" (instance (export "bindings" (func (result string)))))',
            "imports cloister:worker/environment@0.2.0, which",
        ),
        (
            '(import "cloister:worker/environment@0.1.0" (instance (export "r" (type (sub resource)))))',
            "imports the resource cloister:worker/environment@0.1.0#r, which",
        ),
    ],
)
def test_an_import_outside_the_contract_is_named(tmp_path, imported, expected):
    found = problems(tmp_path, f"(component {imported})")

    assert any(expected in problem for problem in found), found


def test_a_later_patch_of_wasi_is_the_same_interface(tmp_path):
    text = '(component (import "wasi:random/random@0.2.77" (instance (export "get-random-u64" (func (result u64))))))'

    assert [p for p in problems(tmp_path, text) if "random" in p] == []
