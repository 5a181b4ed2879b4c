"""Calls of real instances: values in and out, limits, isolation between calls, what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os

import pytest

from host_bindings.body import Body, BytesBody
from runtime.engine.errors import (
    CpuLimitExceeded,
    EngineError,
    GuestException,
    GuestTrapped,
    HostCallLimitExceeded,
    MemoryLimitExceeded,
    TooBusy,
    WallTimeExceeded,
)
from runtime.engine.instance import Instance
from runtime.engine.invocation import UNFINISHED, Invocation
from runtime.engine.limits import Limits
from runtime.engine.pool import Answer, WorkerPool


async def fetch(pool: WorkerPool, url: str, body=None, headers: str = "") -> Answer:
    return await pool.fetch("GET", url, headers, body, request_id="request")


def test_a_worker_answers_with_status_headers_and_body(in_workshop):
    async def body(workshop):
        answer = await fetch(workshop.pool(), "/hello")
        assert (answer.status, answer.headers, answer.body) == (200, "content-type: text/plain\n", "hello")
        assert answer.cold
        assert answer.cpu_ms > 0

    in_workshop(body)


def test_an_instance_is_used_again_and_keeps_its_state(in_workshop):
    async def body(workshop):
        pool = workshop.pool()
        assert [(await fetch(pool, "/count")).body for _ in range(3)] == ["1", "2", "3"]
        assert pool.instances == 1

    in_workshop(body)


def test_isolation_request_gives_every_request_a_fresh_instance(in_workshop):
    async def body(workshop):
        pool = workshop.pool(Limits(isolation="request"))
        assert [(await fetch(pool, "/count")).body for _ in range(3)] == ["1", "1", "1"]
        assert pool.instances == 0

    in_workshop(body)


@pytest.mark.parametrize("payload", [None, "", "text with é, 😀 and \0", b"\x00\xff bytes", b""])
def test_payloads_pass_both_ways(in_workshop, payload):
    async def body(workshop):
        answer = await fetch(workshop.pool(), "/echo", payload, headers="x-a: 1\nx-a: 2\n")
        assert answer.body == payload
        assert answer.headers == "x-a: 1\nx-a: 2\n"

    in_workshop(body)


def test_a_lone_surrogate_from_the_host_cannot_break_the_engine(in_workshop):
    async def body(workshop):
        assert (await fetch(workshop.pool(), "/echo", "a\ud800b")).body == "a?b"

    in_workshop(body)


def test_a_body_that_is_passed_on_is_the_same_object(in_workshop):
    async def body(workshop):
        stream = BytesBody(b"x" * 1_000_000)
        assert (await fetch(workshop.pool(), "/echo", stream)).body is stream

    in_workshop(body)


def test_bytes_above_the_contracts_bound_travel_as_a_stream(in_workshop):
    async def body(workshop):
        data = bytes(70_000)
        pool = workshop.pool()
        assert await (await fetch(pool, "/echo", data)).body.read_all(100_000) == data
        _, (returned,) = await pool.call("m", "[]", [data], request_id="r")
        assert await returned.read_all(100_000) == data

    in_workshop(body)


def test_a_guest_reads_a_body_in_pieces_as_text_and_as_digits(in_workshop):
    async def body(workshop):
        pool = workshop.pool()
        data = os.urandom(200_000)
        pieces = await fetch(pool, "/read_pieces", BytesBody(data))
        assert pieces.headers == "x-pieces: 4\n"
        assert pieces.body == data[:100]
        assert (await fetch(pool, "/read_hex", BytesBody(data))).body == str(sum(data))
        assert (await fetch(pool, "/read_text", BytesBody(b"caf\xc3\xa9 \xff"))).body == "café \ufffd"

    in_workshop(body)


def test_an_answer_can_stream_while_the_guest_writes_it(in_workshop):
    async def body(workshop):
        answer = await fetch(workshop.pool(), "/streamed")
        assert (answer.status, answer.headers) == (201, "x-streamed: yes\n")
        data = await answer.body.read_all(10_000_000)
        assert data == b"".join(bytes([i]) * 60_000 for i in range(20)) + "é".encode() + b"\xff"

    in_workshop(body)


def test_a_streamed_answer_that_breaks_off_is_an_error_for_its_reader(in_workshop):
    async def body(workshop):
        answer = await fetch(workshop.pool(), "/streamed_broken")
        with pytest.raises(Exception, match="stopped before its end"):
            await answer.body.read_all(1000)

    in_workshop(body)


def test_only_the_first_answer_counts(in_workshop):
    async def body(workshop):
        pool = workshop.pool()
        assert (await fetch(pool, "/twice")).body == "first"
        await pool.close()
        assert ("request", "warn", "This request has been answered already.") in workshop.log

    in_workshop(body)


def test_a_remote_call_passes_text_and_attachments(in_workshop):
    async def body(workshop):
        stream = BytesBody(b"s")
        result = await workshop.pool().call("method", '[["é"], {}]', ["t", b"b", None, stream], request_id="r")
        assert result == ('method[["é"], {}]', ["t", b"b", None, stream])

    in_workshop(body)


def test_an_exception_arrives_with_its_message_and_its_traceback_goes_to_the_log(in_workshop):
    async def body(workshop):
        pool = workshop.pool()
        with pytest.raises(GuestException) as caught:
            await fetch(pool, "/fail")
        assert (caught.value.name, caught.value.message) == ("ValueError", "boom")
        assert ("request", "error", "Traceback of the guest") in workshop.log
        assert pool.instances == 1, "an exception does not spend the instance"

    in_workshop(body)


def test_a_crash_spends_the_instance_and_says_nothing_of_the_inside(in_workshop):
    async def body(workshop):
        pool = workshop.pool()
        with pytest.raises(GuestTrapped, match="The worker crashed"):
            await fetch(pool, "/crash")
        assert pool.instances == 0
        assert (await fetch(pool, "/hello")).body == "hello"

    in_workshop(body)


@pytest.mark.parametrize(
    ("url", "limits", "error"),
    [
        ("/loop", Limits(cpu_ms=50), CpuLimitExceeded),
        ("/sleep_long", Limits(wall_ms=100), WallTimeExceeded),
        ("/memory", Limits(memory_bytes=64 << 20), MemoryLimitExceeded),
        ("/many_calls", Limits(host_calls_max=100), HostCallLimitExceeded),
        ("/pipes_without_end", Limits(), GuestTrapped),
        ("/huge_chunk", Limits(), GuestTrapped),
    ],
)
def test_a_limit_ends_the_call_and_the_next_one_works(in_workshop, url, limits, error):
    async def body(workshop):
        pool = workshop.pool(limits)
        with pytest.raises(error):
            await fetch(pool, url)
        assert pool.instances == 0
        assert (await fetch(pool, "/hello")).body == "hello"

    in_workshop(body)


def test_work_after_the_answer_has_the_same_limits(in_workshop):
    async def body(workshop):
        pool = workshop.pool(Limits(cpu_ms=50))
        assert (await fetch(pool, "/early_then_loop")).body == "early"
        while pool.instances:
            await asyncio.sleep(0.01)
        assert any("After the answer: Worker exceeded CPU time limit" in entry[2] for entry in workshop.log)

    in_workshop(body)


def test_deep_recursion_is_pythons_own_error(in_workshop):
    async def body(workshop):
        assert (await fetch(workshop.pool(), "/recursion")).body == "recursion ended"

    in_workshop(body)


def test_a_body_ends_with_its_call_even_if_the_guest_keeps_the_handle(in_workshop):
    async def body(workshop):
        pool = workshop.pool()
        await fetch(pool, "/keep_body", BytesBody(b"of the first request"))
        with pytest.raises(GuestTrapped, match="handle of an earlier call"):
            await fetch(pool, "/use_kept_body")

    in_workshop(body)


def test_a_binding_that_the_tenant_does_not_have_is_an_error_in_the_guest(in_workshop):
    async def body(workshop):
        answer = await fetch(workshop.pool(), "/unknown_binding")
        assert answer.body == "TypeError: This worker has no KV namespace bound as 'NOT_MINE'."

    in_workshop(body)


def test_waiting_guests_do_not_hold_each_other_up(in_workshop):
    async def body(workshop):
        pool = workshop.pool(Limits(instances_max=20))
        answers = await asyncio.gather(*[fetch(pool, "/sleep") for _ in range(60)])
        assert {answer.body for answer in answers} == {"slept"}
        # How many it takes depends on how soon the first have slept.
        assert 1 < pool.instances <= 20

    in_workshop(body)


def test_a_busy_tenant_does_not_stop_another(in_workshop):
    async def body(workshop):
        busy, quiet = workshop.pool(Limits(cpu_ms=300)), workshop.pool()
        loops = [asyncio.create_task(fetch(busy, "/loop")) for _ in range(10)]
        await asyncio.sleep(0)
        answered = 0
        while not all(loop.done() for loop in loops):
            assert (await fetch(quiet, "/hello")).body == "hello"
            answered += 1
            await asyncio.sleep(0)
        assert answered > 10
        for loop in loops:
            with pytest.raises(CpuLimitExceeded):
                await loop

    in_workshop(body)


def test_more_calls_than_the_queue_holds_are_refused(in_workshop):
    async def body(workshop):
        pool = workshop.pool(Limits(instances_max=1, queue_max=2))
        results = await asyncio.gather(*[fetch(pool, "/sleep") for _ in range(5)], return_exceptions=True)
        assert sum(isinstance(result, Answer) for result in results) == 3
        assert sum(isinstance(result, TooBusy) for result in results) == 2

    in_workshop(body)


def test_a_cancelled_caller_ends_its_call_and_frees_its_place(in_workshop):
    async def body(workshop):
        pool = workshop.pool(Limits(instances_max=1))
        caller = asyncio.create_task(fetch(pool, "/sleep_long"))
        await asyncio.sleep(0.02)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert (await fetch(pool, "/hello")).body == "hello"

    in_workshop(body)


def test_a_caller_cancelled_while_it_waits_for_a_turn_leaves_the_queue(in_workshop):
    async def body(workshop):
        pool = workshop.pool(Limits(instances_max=1))
        first = asyncio.create_task(fetch(pool, "/sleep"))
        second = asyncio.create_task(fetch(pool, "/hello"))
        third = asyncio.create_task(fetch(pool, "/hello"))
        await asyncio.sleep(0.01)
        second.cancel()
        assert (await first).body == "slept"
        assert (await third).body == "hello"

    in_workshop(body)


def test_whoever_gives_up_makes_room_in_the_queue(in_workshop):
    async def body(workshop):
        pool = workshop.pool(Limits(instances_max=1, queue_max=2))
        callers = [asyncio.create_task(fetch(pool, "/sleep_long")) for _ in range(3)]
        await asyncio.sleep(0.02)
        for caller in callers[1:]:
            caller.cancel()
        await asyncio.gather(*callers[1:], return_exceptions=True)
        waiting = asyncio.create_task(fetch(pool, "/hello"))
        callers[0].cancel()
        assert (await waiting).body == "hello"

    in_workshop(body)


def test_a_turn_that_comes_when_its_caller_leaves_is_the_next_ones(in_workshop):
    class Leaver:
        """Makes a caller leave in the moment in which it is given an instance."""

        version_number = 1

        def called(self, *_):
            asyncio.get_running_loop().call_soon(second.cancel)

    async def body(workshop):
        nonlocal second
        pool = workshop.pool(Limits(instances_max=1, wall_ms=60_000))
        first = asyncio.create_task(fetch(pool, "/sleep"))
        await asyncio.sleep(0.01)
        second, third = (asyncio.create_task(fetch(pool, "/hello")) for _ in range(2))
        await asyncio.sleep(0)
        pool.observer = Leaver()
        assert (await first).body == "slept"
        async with asyncio.timeout(20):
            assert (await third).body == "hello"
        assert second.cancelled()

    second = None
    in_workshop(body)


def test_a_streamed_answer_that_its_reader_abandons_ends_the_call(in_workshop):
    async def body(workshop):
        pool = workshop.pool()
        answer = await fetch(pool, "/streamed_without_end")
        assert await answer.body.read(100) == b"begun"
        answer.body.abandon()
        assert pool.instances == 0

    in_workshop(body)


def test_an_answer_of_a_call_that_is_over_cannot_end_another(in_workshop):
    async def body(workshop):
        pool = workshop.pool(Limits(instances_max=1))
        answer = await fetch(pool, "/streamed")
        assert len(await answer.body.read_all(2_000_000)) > 1_000_000
        next_one = asyncio.create_task(fetch(pool, "/sleep"))
        await asyncio.sleep(0.01)
        answer.body.abandon()
        assert (await next_one).body == "slept"

    in_workshop(body)


def test_work_that_is_to_go_on_outlives_its_caller_for_a_while(in_workshop, monkeypatch):
    async def body(workshop):
        pool = workshop.pool()
        callers = [asyncio.create_task(fetch(pool, url)) for url in ("/outlive", "/outlive_long")]
        calls = workshop.engine.invocations
        while len(calls) < 2 or not all(call.instance is not None and call.instance.waiting for call in calls):
            await asyncio.sleep(0.01)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        assert pool.instances == 2
        async with asyncio.timeout(20):
            while pool.running:
                await asyncio.sleep(0.01)
        assert [message for _, _, message in workshop.log] == ["outlived", UNFINISHED]

    monkeypatch.setattr("runtime.engine.invocation.ABANDONED_S", 0.5)
    in_workshop(body)


def test_close_lets_running_calls_finish(in_workshop):
    async def body(workshop):
        pool = workshop.pool()
        running = asyncio.create_task(fetch(pool, "/sleep"))
        await asyncio.sleep(0.01)
        await pool.close()
        assert (await running).body == "slept"

    in_workshop(body)


def test_instances_differ_in_their_random_numbers(in_workshop):
    async def body(workshop):
        pool = workshop.pool(Limits(isolation="request"))
        numbers = {(await fetch(pool, "/chance")).body for _ in range(5)}
        assert len(numbers) == 5

    in_workshop(body)


def test_one_tenants_error_never_surfaces_in_another_tenants_call(in_workshop):
    async def body(workshop):
        failing, trapping, fine = workshop.pool(), workshop.pool(), workshop.pool()

        async def outcome(pool: WorkerPool, url: str) -> str:
            try:
                return str((await fetch(pool, url)).body)
            except (GuestException, GuestTrapped) as error:
                return type(error).__name__ + ": " + error.message

        mixed = [(failing, "/fail"), (trapping, "/pipes_without_end"), (fine, "/sleep"), (fine, "/hello")] * 10
        outcomes = await asyncio.gather(*[outcome(pool, url) for pool, url in mixed])
        by_url = {url: {outcomes[i] for i, (_, u) in enumerate(mixed) if u == url} for _, url in mixed}
        assert by_url["/fail"] == {"GuestException: boom"}
        assert by_url["/sleep"] == {"slept"}
        assert by_url["/hello"] == {"hello"}
        assert len(by_url["/pipes_without_end"]) == 1

    in_workshop(body)


@pytest.mark.parametrize("url", ["/hello", "/sleep", "/streamed", "/fail", "/crash", "/early_then_loop"])
def test_what_a_call_leaves_does_not_wait_for_the_garbage_collector(in_workshop, url):
    """An instance that is closed has let go of its machine code, which is an open file, whatever became of its call."""

    async def body(workshop):
        pool = workshop.pool(Limits(isolation="request", cpu_ms=500))
        gc.collect()
        before = {id(each) for each in gc.get_objects()}
        gc.disable()
        try:
            with contextlib.suppress(EngineError):
                answer = await fetch(pool, url)
                if isinstance(answer.body, Body):
                    await answer.body.read_all(10_000_000)
                del answer
            while pool.instances:
                await asyncio.sleep(0.01)
            made = [each for each in gc.get_objects() if id(each) not in before]
            assert [each for each in made if isinstance(each, Instance | Invocation)] == []
        finally:
            gc.enable()

    in_workshop(body)


def test_idle_instances_go_when_memory_is_short(in_workshop):
    async def body(workshop):
        workshop.engine.idle_memory_bytes = 0
        pool = workshop.pool()
        await fetch(pool, "/hello")

        while pool.instances:
            await asyncio.sleep(0.01)

        assert (await fetch(pool, "/hello")).cold

    in_workshop(body)
