"""Notices callers that hang up while nothing is read from them.

An event loop learns of a connection's end by reading. While more of a body has come than anybody takes, or more
requests than are answered, nothing is read, and a caller that has gone would keep its worker busy up to a limit.
"""

from __future__ import annotations

import asyncio
import select

LOOK_S = 1.0
"""How often is looked."""


class HangUps:
    """Looks after connections as long as they are not read from, and closes those whose callers have gone.

    The kernel is asked about all of them together, and only while there are any: requests cost nothing more. The end of
    what a caller sends counts as its leaving here as everywhere, see `Connection.eof_received`. But it comes after what
    the caller's kernel holds for want of a reader: then only a reset is noticed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._unread: set[asyncio.Transport] = set()

    def watch(self, transport: asyncio.Transport) -> None:
        """From now on until it is read from again, or closed."""
        if not self._unread:
            self._loop.call_later(LOOK_S, self._look)
        self._unread.add(transport)

    def _look(self) -> None:
        self._unread = {one for one in self._unread if not (one.is_closing() or one.is_reading())}
        if not self._unread:
            return
        self._loop.call_later(LOOK_S, self._look)
        transports = {one.get_extra_info("socket").fileno(): one for one in self._unread}
        poll = select.poll()
        for descriptor in transports:
            # Resets and errors are told unasked.
            poll.register(descriptor, select.POLLRDHUP)
        for descriptor, _ in poll.poll(0):
            transports[descriptor].close()
