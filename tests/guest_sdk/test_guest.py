"""The SDK inside of a worker: calls, time, errors and logs, on the real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from host_bindings.body import BytesBody
from runtime.engine.errors import GuestException
from tests.guest_sdk.laboratory import Laboratory, content
from workers import ReadableStream, Response

Experiment = Callable[[Callable[[Laboratory], Awaitable[None]]], None]


def test_a_request_is_answered(experiment: Experiment) -> None:
    async def body(worker: Laboratory) -> None:
        answer = await worker.fetch()
        assert (answer.status, answer.headers, answer.body) == (
            200,
            "content-type: text/plain;charset=UTF-8\n",
            "hello",
        )

    experiment(body)


def test_a_request_has_its_parts(experiment: Experiment) -> None:
    code = """
    return Response.json([request.url, request.method, request.headers["X-Name"], request.js_object is request])
    """

    async def body(worker: Laboratory) -> None:
        answer = await worker.fetch("POST", "http://a/b?c=d", "x-name: value\n", code)
        assert answer.body == '["http://a/b?c=d", "POST", "value", true]'

    experiment(body)


def test_a_body_that_is_passed_on_is_the_hosts_own(experiment: Experiment) -> None:
    async def body(worker: Laboratory) -> None:
        source = BytesBody(b"\xff" * 100_000)
        answer = await worker.call("run", "return Response(arguments[0])", ReadableStream(source))
        assert answer._take() is source

    experiment(body)


def test_a_generator_is_sent_while_it_runs(experiment: Experiment) -> None:
    code = """
    async def pieces():
        for n in range(5):
            await asyncio.sleep(0.001)
            yield f"{n},"
        yield b"\\xff" * 200_000
    return Response(pieces(), status=201, headers={"x": "y"})
    """

    async def body(worker: Laboratory) -> None:
        answer = await worker.fetch("POST", body=code)
        assert (answer.status, answer.headers) == (201, "x: y\n")
        assert await content(answer.body) == b"0,1,2,3,4," + b"\xff" * 200_000

    experiment(body)


VALUES = [None, True, 5, 2**70, 1.5, "ü\ud800", b"", b"\xff", b"\xff" * 300_000, b"a" * 300_000, {"$a": [{}]}, [[b"x"]]]


def test_values_come_back_from_a_call_as_they_went(experiment: Experiment) -> None:
    async def body(worker: Laboratory) -> None:
        for value in VALUES:
            assert await worker.call("echo", value) == value
        twice = b"\xff" * 100_000
        assert await worker.call("echo", [twice, twice]) == [twice, twice]
        assert await worker.run("return [arguments, named]", 1, [2], a="b") == [[1, [2]], {"a": "b"}]

    experiment(body)


def test_streams_and_responses_come_back_from_a_call(experiment: Experiment) -> None:
    async def body(worker: Laboratory) -> None:
        stream = await worker.call("echo", ReadableStream(BytesBody(bytes(100_000))))
        assert isinstance(stream, ReadableStream)
        assert await content(stream.take()) == bytes(100_000)  # type: ignore[arg-type]

        response = await worker.run('return Response((piece for piece in ["a", b"b"]), 202, headers={"x": "y"})')
        assert isinstance(response, Response)
        assert (response.status, response.headers["x"], await response.text()) == (202, "y", "ab")

    experiment(body)


@pytest.mark.parametrize(
    "name", ["_private", "_run", "__init__", "env", "ctx", "fetch", "attribute", "nothing", "", "run.echo", "__class__"]
)
def test_only_public_methods_can_be_called(experiment: Experiment, name: str) -> None:
    async def body(worker: Laboratory) -> None:
        with pytest.raises(GuestException, match=f"^Method {name} does not exist$"):
            await worker.call(name)

    experiment(body)


def test_an_error_has_its_name_and_message_and_its_traceback_goes_to_the_log(experiment: Experiment) -> None:
    async def body(worker: Laboratory) -> None:
        for kind, name in (("ValueError", "ValueError"), ("JsException", "Error"), ("SystemExit", "SystemExit")):
            with pytest.raises(GuestException) as caught:
                await worker.call("fail", kind, "what \ud800")
            assert (caught.value.name, caught.value.message) == (name, "what \ufffd")
        level, trace = worker.log[0]
        assert level == "error"
        assert '  File "entry.py", line' in trace
        assert 'raise {"ValueError": ValueError' in trace, "the line of source is missing"
        assert "runtime.py" not in trace, "the SDK's own frames are of no use"

    experiment(body)


def test_time_passes(experiment: Experiment) -> None:
    cases: dict[str, Any] = {
        "await asyncio.sleep(0.001)\nreturn 'slept'": "slept",
        "return await asyncio.gather(asyncio.sleep(0.002, 1), asyncio.sleep(0.001, 2))": [1, 2],
        "task = asyncio.create_task(asyncio.sleep(0.001, 3))\nreturn await task": 3,
        "try:\n    async with asyncio.timeout(0.001):\n        await asyncio.sleep(9)\n"
        "except TimeoutError:\n    return 'timeout'": "timeout",
        "async with asyncio.TaskGroup() as group:\n    task = group.create_task(asyncio.sleep(0.001, 4))\n"
        "return task.result()": 4,
        "return await asyncio.to_thread(sum, [1, 2])": 3,
        "time.sleep(0.001)\nreturn 'waited'": "waited",
        "def f():\n    return ffi.run_sync(asyncio.sleep(0.001, 5))\nreturn f()": 5,
        "def f():\n    return ffi.run_sync(env.KV.get('nothing'))\nreturn f()": None,
    }

    async def body(worker: Laboratory) -> None:
        for code, expected in cases.items():
            assert await worker.run(code) == expected

    experiment(body)


def test_waiting_for_nothing_ends_with_an_error_and_the_worker_goes_on(experiment: Experiment) -> None:
    async def body(worker: Laboratory) -> None:
        with pytest.raises(GuestException, match="never happen"):
            await worker.run("await asyncio.Event().wait()")
        assert await worker.run("await asyncio.sleep(0.001)\nreturn 'fine'") == "fine"

    experiment(body)


def test_what_a_call_leaves_running_ends_with_it(experiment: Experiment) -> None:
    start = """
    async def late():
        try:
            await asyncio.sleep(0.005)
            kept["late"] = "ran on"
        except asyncio.CancelledError:
            kept["late"] = "ended"
            raise
    kept["task"] = asyncio.create_task(late())
    await asyncio.sleep(0)
    """

    async def body(worker: Laboratory) -> None:
        await worker.run(start)
        assert await worker.run("await asyncio.sleep(0.01)\nreturn kept['late']") == "ended"
        assert worker.pool.instances == 1

    experiment(body)


@pytest.mark.parametrize("wait", ["ctx.waitUntil", "ctx.wait_until", "workers.waitUntil", "workers.wait_until"])
def test_work_goes_on_after_the_answer(experiment: Experiment, wait: str) -> None:
    code = f"""
    async def late(name):
        await asyncio.sleep(0.02)
        await env.KV.put(name, "done")
    {wait}(late("one"))
    {wait}(late("two"))
    return Response("answered")
    """

    async def body(worker: Laboratory) -> None:
        answer = await worker.fetch("POST", body=code)
        assert answer.body == "answered"
        for name in ("one", "two"):
            while await worker.run(f"return await env.KV.get({name!r})") is None:
                await asyncio.sleep(0.005)

    experiment(body)


def test_an_error_after_the_answer_goes_to_the_log(experiment: Experiment) -> None:
    code = """
    async def late():
        raise ValueError("too late")
    ctx.waitUntil(late())
    return Response("answered")
    """

    async def body(worker: Laboratory) -> None:
        assert (await worker.fetch("POST", body=code)).body == "answered"
        # Returns when the guest is done, which is after its answer.
        await worker.pool.close()
        assert ["ValueError: too late" in message for _, message in worker.log] == [True]

    experiment(body)


def test_print_and_logging_reach_the_log_once(experiment: Experiment) -> None:
    code = """
    print("printed")
    logging.debug("hidden")
    logging.getLogger("a.b").warning("warned %s", "ü")
    logging.error("failed \\ud800")
    """

    async def body(worker: Laboratory) -> None:
        await worker.run(code)
        assert sorted(worker.log) == [("error", "failed \ufffd"), ("info", "printed"), ("warn", "warned ü")]

    experiment(body)


def test_there_is_no_network(experiment: Experiment) -> None:
    async def body(worker: Laboratory) -> None:
        with pytest.raises(GuestException, match=r"fetch\('http://a/'\): workers have no network") as caught:
            await worker.run("await workers.fetch('http://a/')")
        assert caught.value.name == "OSError"

    experiment(body)


def test_chance_differs_between_instances(experiment: Experiment) -> None:
    code = "await asyncio.sleep(0.02)\nreturn [random.random(), str(uuid.uuid4()), __import__('secrets').token_hex(8)]"

    async def body(worker: Laboratory) -> None:
        values = await asyncio.gather(*[worker.run(code) for _ in range(3)])
        assert worker.pool.instances == 3
        assert all(len(set(column)) == 3 for column in zip(*values, strict=True))

    experiment(body)


def test_the_environment_is_the_workers_own(experiment: Experiment) -> None:
    async def body(worker: Laboratory) -> None:
        assert await worker.run("return [env.GREETING, env['SETTINGS'].depth, workers.env is env]") == [
            "hello",
            [1, 2],
            True,
        ]
        assert await worker.run("return sorted(env)") == ["BUCKET", "DB", "GREETING", "JS_DB", "KV", "SETTINGS"]
        told = "This worker has no binding 'OTHER'; it has KV, .*JS_DB. Bindings are declared in the wrangler"
        for code, name in (("env.OTHER", "AttributeError"), ("env['OTHER']", "KeyError")):
            with pytest.raises(GuestException, match=told) as caught:
                await worker.run(code)
            assert caught.value.name == name
        assert await worker.run("return [hasattr(env, 'OTHER'), 'OTHER' in env]") == [False, False]

    experiment(body)


def test_codecs_are_there(experiment: Experiment) -> None:
    names = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "ascii", "cp1252", "idna", "punycode"]

    async def body(worker: Laboratory) -> None:
        assert await worker.run("return ['a'.encode(n).decode(n) for n in arguments[0]]", names) == ["a"] * len(names)

    experiment(body)
