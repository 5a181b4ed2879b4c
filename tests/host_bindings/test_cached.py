"""Reading what is in memory: all that was asked for, or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from host_bindings.cached import can_be_asked, read_cached

PAGE = os.sysconf("SC_PAGE_SIZE")
CONTENT = os.urandom(64 * PAGE)


def test_a_read_that_is_only_partly_in_memory_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    descriptor = os.open(path, os.O_RDWR)
    try:
        if not can_be_asked(descriptor):
            pytest.skip("this file system does not tell what is in memory")
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(descriptor, PAGE, 0)

        # The second page may have come into memory with the first; then there is nothing to see.
        try:
            found = read_cached(descriptor, 2 * PAGE, 0)
        except BlockingIOError:
            found = CONTENT[: 2 * PAGE]
        assert found == CONTENT[: 2 * PAGE]
        assert read_cached(descriptor, PAGE, 0) == CONTENT[:PAGE]
    finally:
        os.close(descriptor)


def test_at_the_files_end_it_gives_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"short")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if not can_be_asked(descriptor):
            pytest.skip("this file system does not tell what is in memory")
        assert read_cached(descriptor, 100, 0) == b"short"
        assert read_cached(descriptor, 100, 3) == b"rt"
        assert read_cached(descriptor, 100, 50) == b""
    finally:
        os.close(descriptor)
