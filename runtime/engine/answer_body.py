"""The body of an answer that is still being made: whoever reads it and goes away ends the call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from host_bindings.body import Body

if TYPE_CHECKING:
    from runtime.engine.invocation import Invocation


class AnswerBody(Body):
    """A body that the guest of `invocation` gave while it goes on."""

    def __init__(self, body: Body, invocation: Invocation) -> None:
        self.length = body.length
        self._body = body
        self._invocation: Invocation | None = invocation

    async def read(self, limit: int) -> bytes:
        return await self._body.read(limit)

    def close(self) -> None:
        self._invocation = None
        self._body.close()

    def abandon(self) -> None:
        invocation = self._invocation
        self.close()
        if invocation is not None:
            invocation.abandon()
