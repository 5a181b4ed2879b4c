"""Time-slices are shared among tenants, not among calls."""

from __future__ import annotations

import asyncio
import socket
import time

import uvloop

from runtime.engine.turns import ROUND_NS, Turns


class Busy:
    """Something that wants `slices` turns."""

    def __init__(self, turns: Turns, tenant: str, slices: int, record: list[str]) -> None:
        self.turns, self.tenant, self.left, self.record = turns, tenant, slices, record
        self.used_up = True

    def resume(self) -> None:
        self.record.append(self.tenant)
        self.left -= 1
        if self.left:
            self.turns.add(self)


def run(calls: list[tuple[str, int]]) -> list[str]:
    async def main() -> list[str]:
        record: list[str] = []
        turns = Turns(asyncio.get_running_loop())
        for tenant, slices in calls:
            turns.add(Busy(turns, tenant, slices, record))
        while len(record) < sum(slices for _, slices in calls):
            await asyncio.sleep(0)
        return record

    return asyncio.run(main())


def test_a_tenant_with_many_calls_gets_no_more_turns_than_one_with_a_single_call():
    record = run([("heavy", 1)] * 100 + [("quiet", 3)])

    assert record.index("quiet") == 1
    assert [i for i, tenant in enumerate(record) if tenant == "quiet"] == [1, 3, 5]


def test_a_tenant_that_has_run_for_a_slice_waits_until_the_event_loop_has_gone_round():
    async def main() -> None:
        turns = Turns(asyncio.get_running_loop())

        turns.book("heavy", ROUND_NS // 2)
        assert turns.may_run("heavy")
        turns.book("heavy", ROUND_NS // 2)
        assert not turns.may_run("heavy")
        assert turns.may_run("quiet")

        await asyncio.sleep(0)
        assert turns.may_run("heavy")

    asyncio.run(main())


def test_a_call_does_not_overtake_others_of_its_tenant():
    async def main() -> None:
        turns, record = Turns(asyncio.get_running_loop()), []
        turns.add(Busy(turns, "a", 1, record))

        assert not turns.may_run("a")
        assert turns.may_run("b")

    asyncio.run(main())


def test_calls_of_one_tenant_take_turns_in_the_order_of_arrival():
    assert run([("a", 2), ("b", 2), ("a", 2)]) == ["a", "b", "a", "b", "a", "a"]


def test_what_sockets_bring_during_a_turn_is_answered_before_the_next():
    """On the server's event loop. A server's answer is a callback that reading has scheduled."""

    class Caller(asyncio.Protocol):
        def data_received(self, data):
            asyncio.get_running_loop().call_soon(record.append, "answer")

    class Loop:
        tenant = "heavy"
        used_up = True

        def resume(self):
            record.append("turn")
            theirs.send(b"request")
            time.sleep(ROUND_NS / 1e9)
            if len(record) < 20:
                turns.add(self)

    async def main() -> None:
        nonlocal turns
        loop = asyncio.get_running_loop()
        turns = Turns(loop)
        transport, _ = await loop.create_connection(Caller, sock=ours)
        turns.add(Loop())
        while len(record) < 20:
            await asyncio.sleep(0)
        transport.close()

    record: list[str] = []
    turns: Turns | None = None
    ours, theirs = socket.socketpair()
    with theirs, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())

    assert record[:20] == ["turn", "answer"] * 10
