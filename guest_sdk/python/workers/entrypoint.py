"""The classes that a worker's code derives from."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any


class Context:
    """`self.ctx`: what belongs to one request."""

    def __init__(self) -> None:
        self.pending: list[Awaitable[Any]] = []
        self.props: dict[str, Any] = {}

    def wait_until(self, work: Awaitable[Any]) -> None:
        """Goes on with the work after the answer has been sent, and when the caller leaves before that."""
        if not self.pending:
            self._announce()
        self.pending.append(work)

    waitUntil = wait_until

    def _announce(self) -> None:
        """Tells the host that there is work that goes on when the caller leaves."""

    def pass_through_on_exception(self) -> None:
        """Has no effect: there is no origin server behind a worker here."""

    passThroughOnException = pass_through_on_exception


class WorkerEntrypoint:
    """A worker. Derive `Default` from it in the main module; its public methods can be called by the dispatcher."""

    def __init__(self, ctx: Any = None, env: Any = None) -> None:
        self.ctx = ctx
        self.env = env
