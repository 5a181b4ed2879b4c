"""What a child process gives up before it sees a tenant's SQL.

Limits on memory, file size and descriptors, no core dumps, no files beside the databases', no programs, sockets or
signals. They hold for the whole process and cannot be raised again by it.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import apsw

from host_bindings.confinement import confine_child
from host_bindings.d1.limits import MIB, SqlLimits

_DESCRIPTORS_BESIDE_DATABASES = 32
_DESCRIPTORS_OF_A_DATABASE = 5


def confine(limits: SqlLimits, directory: Path) -> None:
    """Takes effect at once, for good. Call it before there are threads: Landlock holds for the one that calls."""
    os.umask(0o077)
    os.chdir("/")
    _bound(resource.RLIMIT_CORE, 0)
    _bound(resource.RLIMIT_AS, limits.address_space_bytes)
    # A write-ahead log holds a transaction's pages with 24 bytes more for each.
    _bound(resource.RLIMIT_FSIZE, limits.database_bytes + limits.database_bytes // 16 + 16 * MIB)
    _bound(
        resource.RLIMIT_NOFILE,
        _DESCRIPTORS_BESIDE_DATABASES + _DESCRIPTORS_OF_A_DATABASE * limits.connections,
    )
    confine_child((), (directory,))
    apsw.hard_heap_limit(limits.heap_bytes)


def _bound(kind: int, value: int) -> None:
    """Sets a limit, or keeps one that is tighter already."""
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))
