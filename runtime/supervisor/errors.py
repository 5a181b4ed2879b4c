"""What ends a supervisor. Imports nothing, so that every command may know it."""

from __future__ import annotations


class ProcessFailed(Exception):
    """A server process did not start, or did not end as it should. What it said itself is in the log."""
