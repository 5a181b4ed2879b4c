"""The base of all workers: what they share of it, and that nothing of its making is left in them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from guest_sdk.build import BuildError, base, build, image, snapshot
from guest_sdk.build.binary import read_layout
from guest_sdk.build.image import PAGE_BYTES
from guest_sdk.build.snapshot import SCRATCH_BYTES, Change, find_changes
from host_bindings import WIT_DIRECTORY
from host_bindings.d1.service import SqlService
from host_bindings.interfaces import ALL
from host_bindings.scope import Resources, Tenant
from runtime.engine.engine import Engine
from runtime.engine.errors import GuestException
from runtime.engine.limits import Limits
from runtime.engine.pool import WorkerPool
from tests.components import raw_component
from tests.guest_sdk.laboratory import Laboratory, in_laboratory, load

Experiment = Callable[[Callable[[Laboratory], Awaitable[None]]], None]
Project = Callable[[Mapping[str, str]], Path]

LARGE = """
from workers import Response

CONTENT = bytes(range(256)) * {size}
TABLE = {{number: str(number) for number in range(1000)}}


def on_fetch(request):
    assert all(int(text) == number for number, text in TABLE.items())
    return Response(f"{{len(CONTENT)}} {{CONTENT == bytes(range(256)) * {size}}}")
"""


def modules(component: Path) -> list[str]:
    data = component.read_bytes()
    return [hashlib.sha256(data[start:end]).hexdigest() for start, end in read_layout(data).modules]


def test_workers_share_every_module_but_the_last(laboratory: Path, project: Project, tmp_path: Path) -> None:
    other = modules(build(project({}), wit_directory=WIT_DIRECTORY, cache=tmp_path / "cache"))
    own = modules(laboratory)

    assert own[:-1] == other[:-1]
    assert own[-1] != other[-1]


@pytest.mark.parametrize(
    "size", [4_000, 40_000], ids=["as changes, of a memory that has grown", "as a memory of its own"]
)
def test_what_a_worker_makes_while_it_is_built_is_there(project: Project, tmp_path: Path, size: int) -> None:
    folder = project({"entry.py": LARGE.format(size=size), "wrangler.jsonc": '{"name": "a", "main": "entry.py"}'})

    async def body(worker: Laboratory) -> None:
        answer = await worker.fetch()
        assert answer.body == f"{size * 256} True"

    in_laboratory(tmp_path / "stores", body, folder)


def test_a_built_worker_takes_no_further_code(experiment: Experiment) -> None:
    """The way in for a worker's code is closed when it has been used: no caller can load a module by it."""

    async def body(worker: Laboratory) -> None:
        wanted = '{"main": "csv", "required": [], "optional": []}'
        with pytest.raises(GuestException):
            await worker.pool.call("", wanted, [], request_id="r")
        assert (await worker.fetch()).body == "hello"

    experiment(body)


def test_bindings_cannot_be_used_while_a_worker_is_built(project: Project, tmp_path: Path) -> None:
    text = "from wit_world.imports import environment\nenvironment.bindings()\nfrom workers import Response\n"

    with pytest.raises(BuildError, match="uses a binding while it is built"):
        build(project({"entry.py": text}), wit_directory=WIT_DIRECTORY, cache=tmp_path / "cache")


def test_bases_that_nobody_uses_any_more_go(tmp_path: Path) -> None:
    for name in ("used", "old"):
        (tmp_path / name / "sdk").mkdir(parents=True)
    os.utime(tmp_path / "old", (0, 0))

    base.sweep(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["used"]


MEMORIES = st.lists(
    st.tuples(st.integers(SCRATCH_BYTES, 2 * PAGE_BYTES - 1), st.binary(min_size=1, max_size=40)), max_size=20
)


def memory(writes: list[tuple[int, bytes]], pages: int) -> bytes:
    written = bytearray(pages * PAGE_BYTES)
    for offset, content in writes:
        content = content[: len(written) - offset]
        if offset < len(written):
            written[offset : offset + len(content)] = content
    return bytes(written)


@given(before=MEMORIES, after=MEMORIES, grown=st.integers(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_patched_memory_is_what_it_was_to_be(
    before: list[tuple[int, bytes]], after: list[tuple[int, bytes]], grown: int
) -> None:
    base, wanted = memory(before, 1), memory([*before, *after], 1 + grown)
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    given_memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, None)))
    given_memory.write(store, base, 0)

    patch = wasmtime.Module(engine, snapshot.patch(find_changes(base, wanted), grown))
    wasmtime.Instance(store, patch, [given_memory])

    assert given_memory.read(store, 0, len(wanted)) == wanted
    assert given_memory.size(store) == 1 + grown


@given(before=MEMORIES, after=MEMORIES)
def test_changes_are_few_and_in_order(before: list[tuple[int, bytes]], after: list[tuple[int, bytes]]) -> None:
    base, wanted = memory(before, 2), memory([*before, *after], 2)

    changes = find_changes(base, wanted)

    ends = [0, *(change.offset + len(change.content) for change in changes)]
    assert all(change.offset > end for change, end in zip(changes, ends, strict=False))
    assert all(base[c.offset : c.offset + len(c.content)] != c.content for c in changes)


def test_nothing_changed_is_no_change() -> None:
    assert find_changes(bytes(PAGE_BYTES), bytes(2 * PAGE_BYTES)) == []
    assert find_changes(bytes(PAGE_BYTES), b"\1" * SCRATCH_BYTES + bytes(PAGE_BYTES - SCRATCH_BYTES)) == []
    assert find_changes(bytes(16), bytes(8) + b"12345678") == [Change(8, b"12345678")]


def test_code_goes_back_to_what_it_was_and_nothing_else() -> None:
    assert snapshot.with_code_of(b"abcdefgh", b"ABCDEFGHIJ", [(1, 2), (5, 1)]) == b"AbcDEfGHIJ"


def test_a_place_counts_as_code_only_while_its_object_is_there() -> None:
    component = raw_component("raw_worker").read_bytes()
    content = image.read_memory(component)
    for address, references, kind in ((64, 0x5000_0000, 7), (96, 1, 7), (128, 0x5000_0000, 8)):
        content[address : address + 8] = struct.pack("<II", references, kind)

    found = image.immortal_places(image.with_memory(component, content), [(64, 7, 20), (96, 7, 20), (128, 7, 20)])

    assert found == [(64, 20)]


def test_a_components_memory_is_read_and_written_back() -> None:
    component = raw_component("raw_worker").read_bytes()
    content = image.read_memory(component)
    content[100:107] = b"changed"
    content += b"more".ljust(PAGE_BYTES, b"\0")

    assert image.read_memory(image.with_memory(component, content)) == content


def test_objects_that_are_not_where_they_should_be_are_not_made_immortal() -> None:
    component = raw_component("raw_worker").read_bytes()

    with pytest.raises(BuildError, match="this version of CPython"):
        image.with_immortals(component, [(16, 123456)], immortal=16)


def test_workers_in_one_process_share_machine_code_and_nothing_else(project: Project, tmp_path: Path) -> None:
    text = "from workers import Response\nSEEN = []\n\n\ndef on_fetch(request):\n    SEEN.append('{0}')\n"
    text += "    return Response(f'{0} {{len(SEEN)}}')\n"
    components = []
    for name in ("one", "two"):
        folder = project({"entry.py": text.format(name)})
        components.append(build(folder, wit_directory=WIT_DIRECTORY, output=tmp_path / f"{name}.wasm"))

    async def main() -> list[object]:
        engine, sql = Engine(ALL), SqlService(tmp_path / "sql")
        resources = Resources(tmp_path / "stores", sql)
        try:
            loaded = [await load(engine, component) for component in components]
            assert loaded[0].native is loaded[1].native
            scopes = [resources.scope(Tenant("tests", name), []) for name in ("one", "two")]
            pools = [WorkerPool(engine, c, s, Limits(), lambda *_: None) for c, s in zip(loaded, scopes, strict=True)]
            answers = [(await pool.fetch("GET", "http://worker/", "", None, request_id="r")).body for pool in pools * 2]
            for pool in pools:
                await pool.close()
            return answers
        finally:
            await engine.close()
            await resources.close()
            await sql.close()

    assert asyncio.run(main()) == ["one 1", "two 1", "one 2", "two 2"]
