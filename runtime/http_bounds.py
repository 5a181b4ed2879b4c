"""What a caller can make a connection keep, on both ports: aiohttp's handler, with bounds.

aiohttp bounds a header and their number, but takes in 32 requests behind the one that is under way, with their heads
and bodies: tens of megabytes for each connection of a caller that need not even wait for an answer.
"""

from __future__ import annotations

from typing import Any

from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

HEAD_BYTES_MAX = 64 * 1024
"""How large a request's head may be in all."""


class BoundedHandler(RequestHandler):
    """Takes in one read's worth of requests beside the one that is under way, and no head above `HEAD_BYTES_MAX`.

    A head that arrives with one read is only seen when it is whole: what handles the request must look at it.
    """

    __slots__ = ("_head_bytes", "_payload")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._payload: StreamReader = EMPTY_PAYLOAD
        """The body of the last request whose head has come."""
        self._head_bytes = 0
        """How much has come since, of another head."""

    def data_received(self, data: bytes) -> None:
        waiter = self._waiter
        waited_for = waiter is not None and not waiter.done()
        self.take_in(data, waited_for)
        if waiter is not None and self._messages and not waiter.done():
            waiter.set_result(None)

    def take_in(self, data: bytes, waited_for: bool) -> None:
        """Parses, and says by `_messages` what is to be handled. `waited_for` is whether a request is."""
        in_head = self._payload.is_eof() and self._payload_parser is None
        super().data_received(data)
        messages = self._messages
        if not messages:
            if in_head:
                self._count_head(len(data))
            return
        self._payload = messages[-1][1]
        self._head_bytes = 0
        if not (waited_for or self._buffer_paused):
            self._pause_reading_for_buffer()

    def _resume_reading_if_drained(self) -> None:
        # aiohttp asks when half of its queue is left. What is queued comes first.
        if not self._messages:
            super()._resume_reading_if_drained()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX and not self._close:
            reason = f"The request's head is larger than {HEAD_BYTES_MAX} bytes."
            self._messages.append((_ErrInfo(400, BadHttpMessage(reason), reason), EMPTY_PAYLOAD))
            # No more is taken in, and this is the last to be answered.
            self._close = True
