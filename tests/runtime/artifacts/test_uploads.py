"""What an upload gets: an artifact that runs, or a refusal that says why and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from host_bindings import wasi
from host_bindings.body import Payload
from host_bindings.interfaces import ALL
from host_bindings.scope import Scope
from runtime.artifacts import (
    Artifact,
    ArtifactError,
    CompiledArtifact,
    CompilerFailed,
    RejectedUpload,
    UploadLimits,
)
from runtime.artifacts.compiler import Compiler
from runtime.artifacts.hoisting import CODE_BYTES_MIN
from runtime.compilation.job import CompileJob
from runtime.engine.engine import Engine
from runtime.engine.limits import Limits
from runtime.engine.pool import WorkerPool
from tests.components import raw_component
from tests.e2e.server import ROOT, wait_until
from tests.runtime.artifacts.conftest import Bench
from tests.runtime.artifacts.workers import sha256, wasm, worker

LIMITS = UploadLimits()
MUCH_CODE = CODE_BYTES_MIN + 100


async def answer(compiled: CompiledArtifact, url: str = "/") -> Payload:
    """What the worker answers to a request, in the real engine."""
    engine = Engine(ALL, flush=wasi.flush)
    try:
        component = await asyncio.to_thread(engine.load, compiled.component, compiled.modules)
        pool = WorkerPool(engine, component, Scope({}, {}), Limits(), lambda *_: None)
        try:
            return (await pool.fetch("GET", url, "", None, request_id="1")).body
        finally:
            await pool.close()
    finally:
        await engine.close()


async def refusal(bench: Bench, upload: Path, limits: UploadLimits = LIMITS) -> RejectedUpload:
    async with bench.store(limits) as store:
        with pytest.raises(RejectedUpload) as caught:
            await store.add(upload)
        return caught.value


@pytest.mark.parametrize("code_bytes", [0, MUCH_CODE], ids=["whole", "hoisted"])
def test_an_upload_becomes_an_artifact_that_runs(bench: Bench, code_bytes: int) -> None:
    data = wasm(worker("good morning", code_bytes=code_bytes))

    async def main() -> None:
        async with bench.store() as store:
            artifact = await store.add(bench.upload(data))
            assert artifact == Artifact(sha256(data), len(data))
            with await store.compiled(artifact.digest) as compiled:
                assert len(compiled.modules) == bool(code_bytes)
                assert await answer(compiled) == "good morning"

    asyncio.run(main())


def test_a_python_worker_runs_from_shared_modules(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            artifact = await store.add(raw_component("raw_worker"))
            with await store.compiled(artifact.digest) as compiled:
                assert len(compiled.modules) == 4
                assert await answer(compiled, "/hello") == "hello"

    asyncio.run(main())


BAD = {
    "empty": (b"", "empty"),
    "not wasm": (b"#!/bin/sh\necho hello\n", "not WebAssembly"),
    "a core module": (wasm("(module)"), "core module"),
    "cut off": (wasm(worker())[:-100], "ends too early"),
    "not valid": (
        wasm(worker()).replace(b"realloc", b"rea11oc", 1),
        "not valid",
    ),
    "no handler": (wasm("(component)"), "does not export cloister:worker/handler@0.1.0"),
    "a foreign import": (
        wasm(worker(imports='(import "evil:host/api@1.0.0" (instance (export "own-everything" (func))))')),
        "imports evil:host/api@1.0.0, which",
    ),
    "a wrong type": (
        wasm(worker(imports='(import "cloister:worker/log@0.1.0" (instance (export "write" (func (param "m" u8)))))')),
        "imports cloister:worker/log@0.1.0#write as func(u8); this host offers",
    ),
    "a module that only the host may import": (
        wasm(worker(imports=f'(import "cloister-module-x{"0" * 64}" (core module))')),
        "imports the core module cloister-module-x000",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_upload_is_refused_with_a_reason_and_nothing_changes(bench: Bench, kind: str) -> None:
    data, said = BAD[kind]

    async def main() -> None:
        async with bench.store() as store:
            await store.add(bench.upload(worker()))
            before = bench.files()

            with pytest.raises(RejectedUpload) as caught:
                await store.add(bench.upload(data))

            assert said in caught.value.message
            assert caught.value.status == 400
            assert str(bench.directory) not in caught.value.message
            assert bench.files() == before

    asyncio.run(main())


def test_an_upload_above_the_size_limit_is_refused(bench: Bench) -> None:
    data = wasm(worker())

    error = asyncio.run(refusal(bench, bench.upload(data), replace(LIMITS, upload_bytes_max=len(data) - 1)))

    assert (error.status, error.code) == (413, 10027)
    assert f"larger than {len(data) - 1:,} bytes" in error.message


def test_a_hostile_component_cannot_name_a_module_that_is_shared(bench: Bench) -> None:
    """Even one that is stored here, so that the import could be satisfied."""

    async def main() -> None:
        async with bench.store() as store:
            artifact = await store.add(bench.upload(worker(code_bytes=MUCH_CODE)))
            with await store.compiled(artifact.digest) as compiled:
                (name,) = compiled.modules
            with pytest.raises(RejectedUpload, match="imports the core module"):
                await store.add(bench.upload(worker(imports=f'(import "{name}" (core module))')))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (replace(LIMITS, compile_wall_s=0.02), "takes too long to compile"),
        (replace(LIMITS, compile_cpu_s=1), "takes too long to compile"),
        (replace(LIMITS, compile_memory_bytes=256 << 20), "takes too much memory to compile"),
        (replace(LIMITS, compiled_bytes_max=1 << 20), "machine code is too large"),
    ],
    ids=["wall clock", "CPU time", "memory", "size"],
)
def test_a_component_that_is_too_dear_to_compile_is_refused(bench: Bench, limits: UploadLimits, said: str) -> None:
    error = asyncio.run(refusal(bench, raw_component("raw_worker"), limits))

    assert said in error.message
    assert error.status == 400
    assert not list(bench.directory.glob("artifacts/*"))
    assert not list(bench.directory.glob("modules/*"))


def test_the_compile_child_inherits_no_secrets(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_ADMIN_TOKEN", "a secret of the host")
    environments: list[dict[str, str]] = []
    start = asyncio.create_subprocess_exec

    async def watched(*command: str, env: dict[str, str], **options: Any) -> asyncio.subprocess.Process:
        environments.append(env)
        return await start(*command, env=env, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", watched)

    async def main() -> None:
        async with bench.store() as store:
            await store.add(bench.upload(worker()))

    asyncio.run(main())

    assert [set(environment) for environment in environments] == [{"PYTHONPATH", "LC_ALL"}]


_PARENT = """
import asyncio, sys
from pathlib import Path
from runtime.artifacts import UploadLimits
from runtime.artifacts.compiler import Compiler

asyncio.run(Compiler(UploadLimits()).component(Path(sys.argv[1]), Path(sys.argv[2]), ()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_compile_child_ends_with_its_parent(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", _PARENT, str(raw_component("raw_worker")), str(tmp_path / "code")]
    with subprocess.Popen(arguments) as parent:
        child = wait_for_child(parent.pid)
        # It has begun, and confined itself. Stopped, it cannot end by itself.
        wait_until(lambda: "NoNewPrivs:\t1" in Path(f"/proc/{child}/status").read_text(), "it did not begin")
        os.kill(child, signal.SIGSTOP)

        parent.kill()

    wait_until(lambda: state_of(child) in ("", "X", "Z"), "the compile child runs on")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who the parent is to a process without one")
def test_a_compile_child_whose_parent_has_gone_before_it_began_does_nothing() -> None:
    command = [sys.executable, "-m", "runtime.compilation.child", "1", "no job"]

    finished = subprocess.run(command, capture_output=True, cwd=ROOT)

    assert (finished.returncode, finished.stderr) == (1, b"")


def wait_for_child(parent: int) -> int:
    children = Path(f"/proc/{parent}/task/{parent}/children")
    wait_until(lambda: children.read_text().strip(), "no child was started")
    return int(children.read_text())


def state_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize(
    ("end", "error", "said"),
    [
        ("exit 1", CompilerFailed, "fault of the host"),
        ("kill -SEGV $$", RejectedUpload, "breaks down"),
        ("kill -KILL $$", RejectedUpload, "too much memory"),
        ("echo 'memory allocation of 4096 bytes failed' >&2; kill -ABRT $$", RejectedUpload, "too much memory"),
    ],
)
def test_a_compiler_that_dies_is_no_crash(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str, error: type[ArtifactError], said: str
) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\n{end}\n")
    compiler.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(compiler))

    async def main() -> None:
        async with bench.store() as store:
            with pytest.raises(error, match=said):
                await store.add(bench.upload(worker()))
            assert not list(bench.directory.glob("artifacts/*"))

    asyncio.run(main())


def test_a_module_that_cannot_be_hoisted_after_all_is_compiled_in_its_place(bench: Bench) -> None:
    """The nested component uses an export that nobody saw being used."""
    nested = """
      (component $inner
        (alias outer 1 $library (core module $m))
        (core instance $i (instantiate $m))
        (alias core export $i "not used by anyone" (core func $f)))
      (instance (instantiate $inner))"""

    async def main() -> None:
        async with bench.store() as store:
            artifact = await store.add(bench.upload(worker("nested", modules=nested, code_bytes=MUCH_CODE)))
            with await store.compiled(artifact.digest) as compiled:
                assert not compiled.modules
                assert await answer(compiled) == "nested"

    asyncio.run(main())


def test_uploads_of_the_same_bytes_at_the_same_time_are_one_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    run = Compiler._run

    async def counted(self: Compiler, job: CompileJob, errors: Path) -> int:
        compiled.append(errors.stem)
        return await run(self, job, errors)

    monkeypatch.setattr(Compiler, "_run", counted)

    async def main() -> None:
        async with bench.store() as store:
            text = worker(code_bytes=MUCH_CODE)
            first, second = await asyncio.gather(store.add(bench.upload(text)), store.add(bench.upload(text)))
            assert first == second
            assert await store.add(bench.upload(text)) == first

    asyncio.run(main())

    assert sorted(compiled) == ["component", "module"]


def test_different_uploads_at_the_same_time_compile_their_common_module_once(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            uploads = [bench.upload(worker(text, code_bytes=MUCH_CODE)) for text in ("one", "two", "three")]
            artifacts = await asyncio.gather(*[store.add(upload) for upload in uploads])
            assert len({artifact.digest for artifact in artifacts}) == 3
            assert len(bench.codes()) == 4
            assert len(list(bench.directory.glob("modules/*"))) == 1

    asyncio.run(main())


def test_who_gives_up_leaves_the_work_to_who_waits_for_it_too(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            text = worker(code_bytes=MUCH_CODE)
            first = asyncio.create_task(store.add(bench.upload(text)))
            second = asyncio.create_task(store.add(bench.upload(text)))
            while store._uploads.waiting(sha256(wasm(text))) != 2:
                await asyncio.sleep(0.001)
            first.cancel()
            assert (await second).digest == sha256(wasm(text))
            with pytest.raises(asyncio.CancelledError):
                await first

    asyncio.run(main())


def test_when_the_last_one_gives_up_the_work_ends(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            text = worker(code_bytes=MUCH_CODE)
            only = asyncio.create_task(store.add(bench.upload(text)))
            while not store._uploads.waiting(sha256(wasm(text))):
                await asyncio.sleep(0.001)
            only.cancel()
            with pytest.raises(asyncio.CancelledError):
                await only
            assert not store._uploads.keys()
            assert not list(bench.directory.glob("artifacts/*"))

    asyncio.run(main())


def test_only_so_many_uploads_wait(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store(replace(LIMITS, uploads_max=2)) as store:
            uploads = [bench.upload(worker(text)) for text in ("one", "two", "three")]
            results = await asyncio.gather(*[store.add(upload) for upload in uploads], return_exceptions=True)
            refused = [result for result in results if isinstance(result, RejectedUpload)]
            assert [error.status for error in refused] == [429]
            assert len(list(bench.directory.glob("artifacts/*"))) == 2

    asyncio.run(main())
