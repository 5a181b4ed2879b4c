"""Whatever a host function raises stays in the call that made it."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from host_bindings.contract import Failure, HostFunction, Interface
from host_bindings.interfaces import ALL
from host_bindings.scope import Scope
from runtime.engine.engine import Engine
from runtime.engine.errors import GuestTrapped, HostFault, WallTimeExceeded
from runtime.engine.limits import Limits
from runtime.engine.pool import WorkerPool


def with_bindings_function(
    implementation: Callable[..., object], *, may_wait: bool, prompt: bool = False
) -> tuple[Interface, ...]:
    """The contract with another implementation of `environment.bindings`, which the raw worker calls."""

    def changed(function: HostFunction) -> HostFunction:
        return replace(function, implementation=implementation, may_wait=may_wait, prompt=prompt)

    return tuple(
        replace(interface, functions=tuple(map(changed, interface.functions)))
        if interface.name.startswith("cloister:worker/environment")
        else interface
        for interface in ALL
    )


def run_call(raw_code: Path, interfaces: tuple[Interface, ...]) -> list[str]:
    """A call that uses the function, and a call of another worker that does not."""

    async def main() -> list[str]:
        engine = Engine(interfaces)
        component = engine.load(raw_code, {})
        logged: list[str] = []
        pools = [
            WorkerPool(engine, component, Scope({}, {}), Limits(), lambda *entry: logged.append(entry[2]))
            for _ in range(2)
        ]
        outcomes = []
        for pool, url in [(pools[0], "/bindings"), (pools[1], "/hello"), (pools[0], "/hello")]:
            try:
                outcomes.append(str((await pool.fetch("GET", url, "", None, request_id="r")).body))
            except (HostFault, GuestTrapped) as error:
                outcomes.append(f"{type(error).__name__}: {error.message}")
        for pool in pools:
            await pool.close()
        await engine.close()
        assert not any("secret of the host" in line for line in logged)
        return outcomes

    return asyncio.run(main())


@pytest.mark.parametrize("may_wait", [False, True])
@pytest.mark.parametrize(
    "raised",
    [
        ValueError("secret of the host"),
        KeyboardInterrupt("secret of the host"),
        asyncio.CancelledError("secret of the host"),
        GeneratorExit("secret of the host"),
        SystemExit("secret of the host"),
    ],
)
def test_an_exception_of_the_host_ends_the_call_without_its_text(raw_code, raised, may_wait):
    def implementation(_context: object) -> str:
        raise raised

    outcomes = run_call(raw_code, with_bindings_function(implementation, may_wait=may_wait))

    assert outcomes == ["HostFault: The host failed to carry out a call of the worker.", "hello", "hello"]


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("raised", [ValueError("secret of the host"), asyncio.CancelledError("secret of the host")])
def test_an_exception_after_waiting_ends_the_call_without_its_text(raw_code, raised, prompt):
    async def implementation(_context: object) -> str:
        await asyncio.sleep(0)
        raise raised

    outcomes = run_call(raw_code, with_bindings_function(implementation, may_wait=True, prompt=prompt))

    assert outcomes[0].startswith("HostFault: ")
    assert "secret" not in outcomes[0]
    assert outcomes[1:] == ["hello", "hello"]


def test_a_failure_that_the_function_cannot_return_ends_the_call(raw_code):
    def implementation(_context: object) -> str:
        raise Failure("Error", "no way to say this")

    outcomes = run_call(raw_code, with_bindings_function(implementation, may_wait=False))

    assert outcomes == ["GuestTrapped: The worker broke the contract: no way to say this", "hello", "hello"]


@pytest.mark.parametrize("prompt", [False, True])
def test_a_function_may_answer_at_once_or_later(raw_code, prompt):
    async def later(_context: object) -> str:
        await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        return '{"answered": "later"}'

    assert run_call(raw_code, with_bindings_function(later, may_wait=True, prompt=prompt))[0] == '{"answered": "later"}'
    at_once = with_bindings_function(lambda _context: '{"answered": "at once"}', may_wait=True)
    assert run_call(raw_code, at_once)[0] == '{"answered": "at once"}'


@types.coroutine
def counted(call):
    """What a coroutine returns, and in how many steps."""
    steps = 0
    while True:
        steps += 1
        try:
            waits_for = call.send(None)
        except StopIteration as done:
            return done.value, steps
        yield waits_for


def test_a_prompt_function_that_does_not_wait_answers_in_the_same_step(raw_code):
    async def main() -> None:
        async def now(_context: object) -> str:
            return '{"answered": "now"}'

        engine = Engine(with_bindings_function(now, may_wait=True, prompt=True))
        pool = WorkerPool(engine, engine.load(raw_code, {}), Scope({}, {}), Limits(), lambda *_: None)
        await pool.fetch("GET", "/hello", "", None, request_id="r")  # makes the instance
        # A guest may use up its time-slice on the way, and then goes on in another step: not each time.
        for _ in range(100):
            answer, steps = await counted(pool.fetch("GET", "/bindings", "", None, request_id="r"))
            assert answer.body == '{"answered": "now"}'
            if steps == 1:
                break
        assert steps == 1
        await pool.close()
        await engine.close()

    asyncio.run(main())


def test_a_prompt_function_is_ended_with_its_call(raw_code):
    async def main() -> None:
        ended: list[BaseException] = []
        begun = asyncio.Event()

        async def endless(_context: object) -> str:
            begun.set()
            try:
                await asyncio.get_running_loop().create_future()
            except BaseException as error:
                ended.append(error)
                raise
            return ""

        engine = Engine(with_bindings_function(endless, may_wait=True, prompt=True))
        pool = WorkerPool(engine, engine.load(raw_code, {}), Scope({}, {}), Limits(), lambda *_: None)
        caller = asyncio.create_task(pool.fetch("GET", "/bindings", "", None, request_id="r"))
        await begun.wait()
        await asyncio.sleep(0)
        (invocation,) = engine.invocations

        invocation.abort(WallTimeExceeded(1))

        with pytest.raises(WallTimeExceeded):
            await caller
        await asyncio.sleep(0)
        assert [type(error) for error in ended] == [asyncio.CancelledError]
        await pool.close()
        await engine.close()

    asyncio.run(main())


def test_a_result_that_comes_as_its_call_is_abandoned_is_dropped(raw_code):
    async def main() -> None:
        waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        engine = Engine(with_bindings_function(lambda _context: waiting, may_wait=True))
        pool = WorkerPool(engine, engine.load(raw_code, {}), Scope({}, {}), Limits(), lambda *_: None)
        caller = asyncio.create_task(pool.fetch("GET", "/bindings", "", None, request_id="r"))
        while not engine.invocations:
            await asyncio.sleep(0)
        (invocation,) = engine.invocations

        waiting.set_result("late")
        invocation.abort(WallTimeExceeded(1))

        with pytest.raises(WallTimeExceeded):
            await caller
        await pool.close()
        await engine.close()

    asyncio.run(main())
