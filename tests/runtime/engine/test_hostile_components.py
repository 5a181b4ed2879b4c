"""Components that attack while they start, written as text because no toolchain would make them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import wasmtime

from host_bindings.interfaces import ALL
from host_bindings.scope import Scope
from runtime.engine.compile import compile_component
from runtime.engine.engine import Engine
from runtime.engine.errors import CpuLimitExceeded, EngineError, GuestTrapped, WorkerUnavailable
from runtime.engine.limits import Limits
from runtime.engine.pool import WorkerPool
from tests.runtime.artifacts.workers import worker_with_a_resource_of_its_own

LOOP = "(func $run (loop $again (br $again)))"
RECURSION = "(func $run (call $run))"
MEMORY_GROWTH = "(memory 1) (func $run (loop $again (drop (memory.grow (i32.const 1))) (br $again)))"
TABLE_GROWTH = (
    "(table 1 funcref) (func $run (loop $again (drop (table.grow (ref.null func) (i32.const 1000))) (br $again)))"
)


def starting(body: str) -> str:
    """A component whose core module does this when it is instantiated."""
    return f"(component (core module $m {body} (start $run)) (core instance (instantiate $m)))"


def start(tmp_path: Path, text: str, limits: Limits) -> EngineError:
    """The error with which a call of the component ends."""
    path = tmp_path / "component.cwasm"
    path.write_bytes(compile_component(bytes(wasmtime.wat2wasm(text))))

    async def main() -> EngineError:
        engine = Engine(ALL)
        pool = WorkerPool(engine, engine.load(path, {}), Scope({}, {}), limits, lambda *_: None)
        with pytest.raises(EngineError) as caught:
            await pool.fetch("GET", "/", "", None, request_id="r")
        await pool.close()
        assert pool.instances == 0
        assert not engine.instances
        await engine.close()
        return caught.value

    return asyncio.run(main())


@pytest.mark.parametrize("body", [LOOP, MEMORY_GROWTH, TABLE_GROWTH])
def test_a_start_function_has_the_cpu_limit(tmp_path, body):
    assert isinstance(start(tmp_path, starting(body), Limits(cpu_ms=50)), CpuLimitExceeded)


def test_endless_recursion_in_wasm_ends_the_call_alone(tmp_path):
    error = start(tmp_path, starting(RECURSION), Limits())

    assert isinstance(error, WorkerUnavailable)
    assert "call stack is exhausted" in error.message


@pytest.mark.parametrize(
    "module",
    [
        "(memory 65536)",
        "(memory 1) (memory 1) (memory 1)",
        "(table 10000000 funcref)",
    ],
)
def test_what_a_module_declares_is_within_the_limits_too(tmp_path, module):
    text = f"(component (core module $m {module}) (core instance (instantiate $m)))"

    assert isinstance(start(tmp_path, text, Limits()), EngineError)


def test_more_core_instances_than_allowed_do_not_start(tmp_path):
    instances = "(core instance (instantiate $m))" * 100

    assert isinstance(start(tmp_path, f"(component (core module $m) {instances})", Limits()), EngineError)


def test_a_component_without_the_handler_cannot_be_called(tmp_path):
    error = start(tmp_path, "(component)", Limits())

    assert "handler" in error.message


LATE = """(loop $again
  (global.set $n (i32.add (global.get $n) (i32.const 1)))
  (br_if $again (i32.lt_u (global.get $n) (i32.const 20000000))))"""


@pytest.mark.parametrize("before", ["", LATE], ids=["at once", "after a time-slice"])
def test_an_answer_with_a_resource_of_the_workers_own_ends_its_call(tmp_path, before):
    """An upload like this is refused; if it were not, its callers would have their answer all the same."""
    stream = "(i32.store8 (i32.const 32) (i32.const 3)) (i32.store (i32.const 36) (call $new (i32.const 5)))"

    error = start(tmp_path, worker_with_a_resource_of_its_own(before + stream), Limits())

    assert isinstance(error, GuestTrapped)
    assert "resource of another type" in error.message
