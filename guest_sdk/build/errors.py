"""What a build can fail with."""

from __future__ import annotations


class BuildError(Exception):
    """The worker cannot be built. The message is for its developer; `details` may hold a traceback of its code."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details
