"""Processes that open a new file together all find it in write-ahead logging, whichever was first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from host_bindings.storage.wal import use_wal


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[apsw.Connection]:
    """Another connection, which reads the file as one does that has just opened it."""
    connection = apsw.Connection(str(tmp_path / "new.sqlite"))
    connection.execute("CREATE TABLE t (a)")
    connection.execute("BEGIN")
    connection.execute("SELECT * FROM t").fetchall()
    yield connection
    connection.close(True)


def test_the_change_waits_for_another_that_reads_the_file(reader: apsw.Connection) -> None:
    connection = apsw.Connection(reader.db_filename("main"))
    with pytest.raises(apsw.BusyError):
        connection.pragma("journal_mode", "WAL")
    timer = threading.Timer(0.2, lambda: reader.execute("COMMIT"))
    timer.start()

    use_wal(connection, 60)

    timer.join()
    assert connection.pragma("journal_mode") == "wal"


def test_patience_ends(reader: apsw.Connection) -> None:
    connection = apsw.Connection(reader.db_filename("main"))

    with pytest.raises(apsw.BusyError, match="WAL mode"):
        use_wal(connection, 0.05)

    assert reader.pragma("journal_mode") == "delete"


def test_a_file_that_can_have_no_log_is_refused() -> None:
    with pytest.raises(apsw.BusyError, match="WAL mode"):
        use_wal(apsw.Connection(":memory:"), 0)
