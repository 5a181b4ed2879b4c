"""What is found out about an upload before anything expensive runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime.artifacts.component import SectionId, read_outline
from runtime.artifacts.errors import RejectedUpload
from runtime.artifacts.limits import UploadLimits
from tests.runtime.artifacts.workers import wasm, worker

LIMITS = UploadLimits()


def refusal(data: bytes, limits: UploadLimits = LIMITS) -> str:
    with pytest.raises(RejectedUpload) as caught:
        read_outline(data, limits)
    assert (caught.value.status, caught.value.code) == (400, 10021)
    return caught.value.message


def test_a_worker_has_its_modules_and_imports_listed() -> None:
    outline = read_outline(wasm(worker()), LIMITS)

    assert [section.id for section in outline.sections].count(SectionId.CORE_MODULE) == 2
    assert outline.imports == ("cloister:worker/types@0.1.0", "cloister:worker/http@0.1.0")


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF" + bytes(100), b"\0asn" + bytes(100), b"PK\x03\x04"])
def test_what_is_not_wasm_is_told_so(data: bytes) -> None:
    assert "not WebAssembly" in refusal(data)


def test_a_core_module_is_told_from_a_component() -> None:
    message = refusal(wasm("(module)"))

    assert "core module, not a component" in message
    assert "cloister build" in message


def test_another_version_of_the_format_is_not_guessed_at() -> None:
    assert "version" in refusal(b"\0asm\x0d\x00\x02\x00")


def test_a_component_is_whole_or_refused() -> None:
    whole = wasm(worker())
    boundaries = {8, *(section.end for section in read_outline(whole, LIMITS).sections)}

    for size in range(4, len(whole)):
        if size not in boundaries:
            assert "ends too early" in refusal(whole[:size]), size


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\0asm\x0d\0\x01\0" + b"\x0d\x00", "unknown kind (13)"),
        (b"\0asm\x0d\0\x01\0" + b"\x07\xff\xff\xff\xff\xff\x01", "malformed number"),
        (b"\0asm\x0d\0\x01\0" + b"\x07\xff\xff\xff\xff\x7f", "out of range"),
        (b"\0asm\x0d\0\x01\0" + b"\x07\xff\xff\xff\xff\x0f", "ends too early"),
        (b"\0asm\x0d\0\x01\0" + b"\x01\x08\0asm\x0d\0\x01\0", "no valid core module"),
        (b"\0asm\x0d\0\x01\0" + b"\x04\x08\0asm\x01\0\0\0", "no valid nested component"),
        (b"\0asm\x0d\0\x01\0" + b"\x0a\x02\x01\x07", "import of an unknown form"),
        (b"\0asm\x0d\0\x01\0" + b"\x0a\x03\x00\x00\x00", "malformed import section"),
    ],
)
def test_what_is_malformed_is_told_where(data: bytes, said: str) -> None:
    assert said in refusal(data)


@pytest.mark.parametrize(
    ("imported", "said"),
    [
        ('(import "cloister-module-x00" (core module))', "core module cloister-module-x00"),
        ('(import "m" (core module (export "f" (func))))', "core module m"),
    ],
)
def test_nobody_but_the_host_imports_core_modules(imported: str, said: str) -> None:
    assert said in refusal(wasm(worker(imports=imported)))


MANY = {
    "sections_max": " ".join(f'(component) (import "i{n}" (func))' for n in range(40)),
    "core_modules_max": "(core module)" * 30,
    "functions_max": f"(core module {'(func)' * 60})",
    "globals_max": f"(core module {'(global i32 (i32.const 0))' * 60})",
    "items_max": f"(core module {'(type (func))' * 300})",
    "imports_max": " ".join(f'(import "i{n}" (func))' for n in range(30)),
}


@pytest.mark.parametrize("limit", MANY)
def test_too_many_parts_are_refused_by_what_they_are(limit: str) -> None:
    text = f"(component {MANY[limit]})"
    limits = replace(LIMITS, **{limit: 25})  # type: ignore[arg-type]

    assert "too many" in refusal(wasm(text), limits)
    read_outline(wasm(text), LIMITS)


def test_parts_of_nested_components_count_too() -> None:
    text = f"(component {'(component (core module (func) (func) (func)))' * 10})"

    assert "too many functions" in refusal(wasm(text), replace(LIMITS, functions_max=29))
    read_outline(wasm(text), replace(LIMITS, functions_max=30))


def test_components_nest_only_so_deep() -> None:
    text = "(component " * 17 + ")" * 17

    assert "16 deep" in refusal(wasm(text))
    read_outline(wasm("(component " * 16 + ")" * 16), LIMITS)


def test_a_hostile_name_is_shown_harmlessly() -> None:
    data = wasm('(component (import "a-name-of-18-bytes" (core module)))').replace(
        b"a-name-of-18-bytes", b"\xe2\x80\xae\x1b[31m\n\r\0\x07aaaaaa"
    )

    message = refusal(data)

    assert message.isprintable() and message.isascii()
