"""Work that several want is done once, for as long as anyone wants it."""

from __future__ import annotations

import asyncio

import pytest

from runtime.artifacts.once import Once


class Work:
    """Work that ends when it is told to."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.finish = asyncio.Event()

    async def __call__(self) -> int:
        self.started += 1
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.started


async def steps(number: int = 5) -> None:
    """Lets every task that can go on do so."""
    for _ in range(number):
        await asyncio.sleep(0)


def test_callers_at_the_same_time_share_the_work() -> None:
    async def main() -> None:
        once, work = Once[int](), Work()
        callers = [asyncio.create_task(once.run("key", work)) for _ in range(3)]
        await steps()
        assert once.keys() == ["key"]

        work.finish.set()

        assert await asyncio.gather(*callers) == [1, 1, 1]
        assert not once.keys()
        assert await once.run("key", work) == 2

    asyncio.run(main())


def test_an_error_is_every_callers() -> None:
    async def fail() -> int:
        raise LookupError

    async def main() -> None:
        once = Once[int]()
        results = await asyncio.gather(*[once.run("key", fail) for _ in range(2)], return_exceptions=True)
        assert [type(result) for result in results] == [LookupError, LookupError]

    asyncio.run(main())


def test_work_goes_on_until_the_last_caller_gives_up() -> None:
    async def main() -> None:
        once, work = Once[int](), Work()
        first, second = [asyncio.create_task(once.run("key", work)) for _ in range(2)]
        await steps()

        first.cancel()
        await steps()
        assert (once.waiting("key"), work.cancelled) == (1, 0)

        second.cancel()
        await steps()
        assert (once.waiting("key"), once.keys(), work.cancelled) == (0, [], 1)
        await asyncio.wait([first, second])

    asyncio.run(main())


def test_work_that_is_given_up_before_it_begins_leaves_nothing() -> None:
    async def main() -> None:
        once, work = Once[int](), Work()
        only = asyncio.create_task(once.run("key", work))
        await asyncio.sleep(0)
        only.cancel()
        await asyncio.wait([only])

        assert (once.keys(), once.waiting("key")) == ([], 0)
        work.finish.set()
        assert await once.run("key", work)

    asyncio.run(main())


def test_closing_ends_what_runs() -> None:
    async def main() -> None:
        once, work = Once[int](), Work()
        caller = asyncio.create_task(once.run("key", work))
        await steps()

        await once.close()

        assert work.cancelled == 1
        with pytest.raises(asyncio.CancelledError):
            await caller

    asyncio.run(main())
