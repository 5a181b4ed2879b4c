"""The change to write-ahead logging, of every SQLite file that more than one process may open."""

from __future__ import annotations

import time

import apsw

_PAUSE_S = 0.005


def use_wal(connection: apsw.Connection, patience_s: float) -> None:
    """Waits for up to `patience_s` seconds for others that use the file. Raises `apsw.Error`, and `apsw.BusyError`
    at the end of that time or for a file that can have no such log.

    The change needs the file for itself, and of two processes that make it at once SQLite may refuse one without asking
    the busy handler, since both waiting could be a deadlock (https://www.sqlite.org/c3ref/busy_handler.html).
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if connection.pragma("journal_mode", "WAL") == "wal":
                return
        except apsw.BusyError:
            pass
        if time.monotonic() > deadline:
            raise apsw.BusyError("the database could not be put into WAL mode")
        time.sleep(_PAUSE_S)
