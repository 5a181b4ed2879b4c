"""How many requests a tenant may have in a second: a bucket that refills all the time."""

from __future__ import annotations


class RequestRate:
    """Lets `per_s` requests a second through; up to a second's worth may come at once."""

    __slots__ = ("_credit", "_per_s", "_refilled")

    def __init__(self, per_s: int, now: float) -> None:
        self._per_s = per_s
        self._credit = float(per_s)
        self._refilled = now

    def take(self, now: float) -> float:
        """0 if a request may pass at `now` (seconds, never going back); else how long to wait before the next may."""
        if now > self._refilled:
            self._credit = min(self._per_s, self._credit + (now - self._refilled) * self._per_s)
            self._refilled = now
        if self._credit < 1:
            return (1 - self._credit) / self._per_s
        self._credit -= 1
        return 0.0
