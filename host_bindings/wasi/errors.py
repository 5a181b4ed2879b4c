"""How a call of WASI can end the guest's whole call. Everything else is an answer that the guest can handle.

The engine turns a `GuestTrap` into the error that the caller gets; the message may be shown to anyone.
"""

from __future__ import annotations


class GuestTrap(Exception):
    """The guest did what WASI forbids, or asked for more than this host gives at once."""


class GuestExit(GuestTrap):
    """The guest ended itself with `exit`. `status` is 0 for success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"The worker exited with status {status}.")
        self.status = status
