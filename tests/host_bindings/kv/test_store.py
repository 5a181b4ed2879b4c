"""A namespace: what is put is got, listed in byte order, gone at its second, and there after a crash."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from host_bindings.kv.store import INLINE_BYTES_MAX, Entry, KVNamespace, TooMuch
from host_bindings.storage.failures import StorageFailure
from tests.host_bindings.kv.writer import content
from tests.host_bindings.storage.crash import acknowledged_before_kill
from tests.host_bindings.storage.faults import files_no_longer_than
from tests.host_bindings.storage.inputs import HOSTILE_KEYS, Clock

SIZES = (0, 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 5000, 2_000_000)


def using(
    directory: Path, work: Callable[[KVNamespace], Awaitable[None]], clock: Callable[[], float] | None = None
) -> None:
    async def main() -> None:
        namespace = KVNamespace(directory, clock=clock) if clock is not None else KVNamespace(directory)
        try:
            await work(namespace)
        finally:
            await namespace.close()

    asyncio.run(main())


async def names(namespace: KVNamespace, prefix: str = "") -> list[str]:
    return [key.name for key in (await namespace.list(prefix)).keys]


@pytest.mark.parametrize("size", SIZES)
def test_a_value_of_any_size_comes_back_as_it_was(tmp_path: Path, size: int) -> None:
    value = random.Random(size).randbytes(size)

    async def work(namespace: KVNamespace) -> None:
        await namespace.put("key", value, metadata='{"a":1}', expiration=4_000_000_000)
        assert await namespace.get("key") == Entry(value, '{"a":1}', 4_000_000_000)

    async def work_after_restart(namespace: KVNamespace) -> None:
        assert await namespace.get("key") == Entry(value, '{"a":1}', 4_000_000_000)

    using(tmp_path, work)
    using(tmp_path, work_after_restart)


def test_a_put_replaces_the_whole_entry(tmp_path: Path) -> None:
    async def work(namespace: KVNamespace) -> None:
        for before in SIZES:
            for after in SIZES:
                await namespace.put("key", b"a" * before, metadata="1", expiration=4_000_000_000)
                await namespace.put("key", b"b" * after)
                assert await namespace.get("key") == Entry(b"b" * after, None, None)
        await namespace.delete("key")
        assert await namespace.get("key") is None
        await namespace.delete("key")

    using(tmp_path, work)


def test_large_values_that_are_replaced_or_deleted_leave_no_trace(tmp_path: Path) -> None:
    async def work(namespace: KVNamespace) -> None:
        for _ in range(3):
            await namespace.put("replaced", b"x" * 1000)
        await namespace.put("replaced", b"short")
        await namespace.put("deleted", b"x" * 1000)
        await namespace.delete("deleted")
        await namespace.put("kept", b"x" * 1000)
        left = await namespace._database.read(
            lambda connection: connection.execute("SELECT count(*) FROM large_values").fetchall()
        )
        assert left == [(1,)]

    using(tmp_path, work)


def test_any_text_is_a_key_of_its_own(tmp_path: Path) -> None:
    async def work(namespace: KVNamespace) -> None:
        for n, key in enumerate(HOSTILE_KEYS):
            await namespace.put(key, str(n).encode())
        for n, key in enumerate(HOSTILE_KEYS):
            assert await namespace.get(key) == Entry(str(n).encode(), None, None)
        assert await names(namespace) == sorted(HOSTILE_KEYS, key=str.encode)

    using(tmp_path, work)


def test_keys_are_listed_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    expected = ["o/10", "o/9", "o/Z", "o/a", "o/é", "o/\ufffd", "o/😀"]

    async def work(namespace: KVNamespace) -> None:
        for key in reversed(expected):
            await namespace.put(key, b"")
        assert await names(namespace) == expected

    using(tmp_path, work)


def test_a_prefix_is_taken_literally(tmp_path: Path) -> None:
    keys = ["a", "a%", "a%b", "a_b", "aXb", "A%b", "a\U0010ffff", "a\U0010ffffz", "b"]

    async def work(namespace: KVNamespace) -> None:
        for key in keys:
            await namespace.put(key, b"")
        for prefix in ("a%", "a_", "A", "a\U0010ffff", "a", "zzz", ""):
            expected = sorted((key for key in keys if key.startswith(prefix)), key=str.encode)
            assert await names(namespace, prefix) == expected

    using(tmp_path, work)


def test_pages_meet_end_to_end_while_keys_come_and_go(tmp_path: Path) -> None:
    async def work(namespace: KVNamespace) -> None:
        for n in range(10):
            await namespace.put(f"k{n}", b"")
        first = await namespace.list("k", limit=4)
        assert [key.name for key in first.keys] == ["k0", "k1", "k2", "k3"]
        await namespace.put("k1x", b"")
        await namespace.put("k3x", b"")
        await namespace.delete("k4")
        second = await namespace.list("k", limit=3, cursor=first.cursor)
        assert [key.name for key in second.keys] == ["k3x", "k5", "k6"]
        last = await namespace.list("k", limit=3, cursor=second.cursor)
        assert ([key.name for key in last.keys], last.cursor) == (["k7", "k8", "k9"], None)

    using(tmp_path, work)


@pytest.mark.parametrize("cursor", ["garbage", "💥", "=", "AAAA", "____", "a"])
def test_a_cursor_that_was_not_made_here_is_no_error(tmp_path: Path, cursor: str) -> None:
    async def work(namespace: KVNamespace) -> None:
        await namespace.put("zzz", b"")
        assert (await namespace.list(cursor=cursor)).cursor is None

    using(tmp_path, work)


def test_an_entry_is_gone_from_its_second_on(tmp_path: Path) -> None:
    clock = Clock(1000.9)

    async def work(namespace: KVNamespace) -> None:
        await namespace.put("key", b"value", expiration=1060)
        await namespace.put("other", b"x" * 1000, expiration=1061)
        clock.now = 1059.999
        assert await namespace.get("key") is not None
        assert await names(namespace) == ["key", "other"]
        clock.now = 1060.0
        assert await namespace.get("key") is None
        assert await namespace.get_many(["key"], bytes_max=100) == {"key": None}
        assert await names(namespace) == ["other"]

    using(tmp_path, work, clock)


def test_expired_entries_are_deleted_in_the_background(tmp_path: Path) -> None:
    clock = Clock(1000)

    async def fill(namespace: KVNamespace) -> None:
        for n in range(20):
            await namespace.put(f"short{n}", b"x", expiration=1060)
            await namespace.put(f"large{n}", b"x" * 1000, expiration=1060)
        await namespace.put("lasting", b"x")

    async def touch(namespace: KVNamespace) -> None:
        await namespace.get("whatever")

    async def count(namespace: KVNamespace) -> None:
        sql = "SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM large_values)"
        assert await namespace._database.read(lambda connection: connection.execute(sql).fetchall()) == [(1, 0)]

    using(tmp_path, fill, clock)
    clock.now = 1061
    using(tmp_path, touch, clock)
    using(tmp_path, count, clock)


def test_many_keys_are_read_at_once_within_a_limit(tmp_path: Path) -> None:
    async def work(namespace: KVNamespace) -> None:
        await namespace.put("a", b"x" * 600)
        await namespace.put("b", b"y" * 400, metadata="2")
        found = await namespace.get_many(["b", "a", "missing", "b"], bytes_max=1000)
        assert found == {"b": Entry(b"y" * 400, "2", None), "a": Entry(b"x" * 600, None, None), "missing": None}
        with pytest.raises(TooMuch):
            await namespace.get_many(["a", "b"], bytes_max=999)

    using(tmp_path, work)


def test_nothing_that_was_answered_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    lines = acknowledged_before_kill("tests.host_bindings.kv.writer", tmp_path, 400)

    async def check(namespace: KVNamespace) -> None:
        for line in lines:
            done, key = line.split()
            entry = await namespace.get(key)
            assert entry == (Entry(content(key), None, None) if done == "put" else None)
        await namespace.put("after", b"the crash")

    using(tmp_path, check)


def test_two_processes_share_a_namespace(tmp_path: Path) -> None:
    async def write_until(namespace: KVNamespace) -> None:
        # The other process is started and killed on a thread, while this one writes.
        other = asyncio.create_task(
            asyncio.to_thread(acknowledged_before_kill, "tests.host_bindings.kv.writer", tmp_path, 200)
        )
        n = 0
        while not other.done():
            await namespace.put(f"mine/{n}", content(str(n)))
            n += 1
        for line in other.result():
            done, key = line.split()
            assert (await namespace.get(key) is not None) == (done == "put")
        for each in range(n):
            assert await namespace.get(f"mine/{each}") == Entry(content(str(each)), None, None)

    using(tmp_path, write_until)


def test_a_full_disk_fails_the_put_and_keeps_the_old_value(tmp_path: Path) -> None:
    async def work(namespace: KVNamespace) -> None:
        await namespace.put("key", b"old")
        with files_no_longer_than(128 * 1024):
            with pytest.raises(StorageFailure):
                await namespace.put("key", b"x" * 1_000_000)
            assert await namespace.get("key") == Entry(b"old", None, None)
        await namespace.put("key", b"new")
        assert await namespace.get("key") == Entry(b"new", None, None)

    using(tmp_path, work)
