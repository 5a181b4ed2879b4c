"""The process in which a worker's code is loaded into its base: `python -m guest_sdk.build.load_child PARENT JOB`.

Started by `component` only. The worker's code runs in WebAssembly; it sees the folders that it is given, its own and
its packages' as copies that it may write to, and nothing else of the machine.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

import msgspec
import wasmtime
from wasmtime import component as wc

from guest_sdk.build import snapshot
from guest_sdk.build.image import PAGE_BYTES, with_memory
from guest_sdk.build.load_job import NO_BINDINGS, LoadJob

HANDLER = "cloister:worker/handler@0.1.0"
READ_BYTES = 1024 * 1024

CHANGED_BYTES_MAX = 4 * 1024 * 1024
"""Changes are copied into each instance. A worker that has more of them gets a memory of its own; its instances share
what they do not change of it."""


_PR_SET_PDEATHSIG = 1


def main(parent: str, argument: str) -> None:
    """`parent` is the process id of the build: without it nobody wants the component."""
    _end_with_parent(int(parent))
    job = msgspec.json.decode(argument, type=LoadJob)
    base = Path(job.base).read_bytes()
    engine = wasmtime.Engine()
    component = wc.Component.deserialize_file(engine, job.machine_code)
    linker = wc.Linker(engine)
    linker.add_wasip2()
    _refuse_bindings(engine, linker, component)
    store = wasmtime.Store(engine)
    store.set_wasi(_world(job))
    instance = linker.instantiate(store, component)
    before = _memory(store, instance)
    _function(store, instance, "call", HANDLER)(store, "", job.wanted, [])
    _function(store, instance, snapshot.FINISH)(store)
    code = msgspec.json.decode(Path(job.code).read_bytes(), type=list[tuple[int, int]])
    after = snapshot.with_code_of(before, _memory(store, instance), code)
    changes = snapshot.find_changes(before, after)
    if sum(len(change.content) for change in changes) <= CHANGED_BYTES_MAX:
        made = snapshot.with_changes(base, changes, (len(after) - len(before)) // PAGE_BYTES)
    else:
        made = with_memory(base, bytes(snapshot.SCRATCH_BYTES) + after[snapshot.SCRATCH_BYTES :])
    Path(job.output).write_bytes(made)


def _end_with_parent(parent: int) -> None:
    """On Linux, which alone can. The host's other children have it from their confinement, unknown to the SDK."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def _refuse_bindings(engine: wasmtime.Engine, linker: wc.Linker, component: wc.Component) -> None:
    """Defines what the host will give to the worker: none of it is there yet."""

    def refuse(*_arguments: object) -> None:
        raise RuntimeError(NO_BINDINGS)

    with linker.root() as root:
        for interface, extern in component.type.imports(engine).items():
            if not interface.startswith("cloister:") or not isinstance(extern.ty, wc.ComponentInstanceType):
                continue
            with root.add_instance(interface) as instance:
                for name, member in extern.ty.exports(engine).items():
                    if isinstance(member.ty, wc.FuncType):
                        instance.add_func(name, refuse)
                    elif isinstance(member.ty, wc.ResourceType):
                        instance.add_resource(name, wc.ResourceType.host(1), lambda _store, _rep: None)


def _world(job: LoadJob) -> wasmtime.WasiConfig:
    world = wasmtime.WasiConfig()
    world.stdout_file = job.stdout
    world.stderr_file = job.stderr
    for folders, mutable in ((job.folders, False), (job.writable, True)):
        for guest, host in folders.items():
            world.preopen_dir(host, guest, mutable)
    return world


def _function(store: wasmtime.Store, instance: wc.Instance, name: str, interface: str | None = None) -> wc.Func:
    outer = None if interface is None else instance.get_export_index(store, interface)
    index = instance.get_export_index(store, name, outer)
    function = None if index is None else instance.get_func(store, index)
    assert function is not None
    return function


def _memory(store: wasmtime.Store, instance: wc.Instance) -> bytes:
    size = _function(store, instance, snapshot.SIZE)(store) * PAGE_BYTES
    read = _function(store, instance, snapshot.READ)
    parts = (read(store, start, min(READ_BYTES, size - start)) for start in range(0, size, READ_BYTES))
    return b"".join(part.encode("latin-1") for part in parts)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
