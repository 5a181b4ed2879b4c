"""What whoever starts a server is told when it listens. A leaf: imports no other room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Listening:
    """Where a server that is ready listens, and the token of its management API."""

    host: str
    port: int
    admin_host: str
    admin_port: int
    admin_token: str = field(repr=False)


Ready = Callable[[Listening], Awaitable[None]]
"""Runs when both ports answer, while the server serves. If it raises, the server ends and raises that."""


async def until_stopped(stopping: asyncio.Event, ready: Ready | None, listening: Listening) -> None:
    """Lets `ready` run beside the serving and returns when it is to stop. Raises what `ready` raises."""
    stopped = asyncio.create_task(stopping.wait())
    if ready is None:
        await stopped
        return

    async def call() -> None:
        await ready(listening)

    # The server answers while it runs: it may deploy to it.
    announcing = asyncio.create_task(call())
    await asyncio.wait((stopped, announcing), return_when=asyncio.FIRST_COMPLETED)
    if not announcing.done():
        announcing.cancel()
        await asyncio.wait((announcing,))
    elif announcing.exception() is None:
        await stopped
    stopped.cancel()
    if not announcing.cancelled():
        announcing.result()
