"""Landlock: a thread gives up the files, ports and signals that it does not need, without any privilege.

The kernel's documentation (userspace-api/landlock) is the source of the numbers. What a kernel does not know yet is
left out. Restrictions hold for the calling thread and for all that it starts, for good: call this before there are
threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH, _NET_PORT = 1, 2

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEVICE = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE

# How many of the file rights, which are bits from 0 on, each version of the interface knows.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_FILE_RIGHTS_NEWEST = 16
_NETWORK_SINCE, _SCOPES_SINCE = 4, 6
_TCP_BIND, _TCP_CONNECT = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1 << 0, 1 << 1
_MAKE_DEVICES = 1 << 6 | 1 << 11

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("directory", ctypes.c_int32))


class _NetPort(ctypes.Structure):
    _fields_ = (("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64))


def landlock_version() -> int:
    """The version of the kernel's Landlock interface; 0 where there is none, or it is switched off."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))))


def restrict_files(
    readable: Iterable[Path], writable: Iterable[Path], *, network: bool = False, ports: Iterable[int] = ()
) -> int:
    """From now on only what lies below `readable` can be read (and executed), below `writable` changed as well.

    Without `network` no TCP port can be bound, and only `ports` can be connected to, on any host. Only the processes
    that this one starts from now on can be signalled. Paths that do not exist are passed over. Gives the version of the
    interface; 0 if there is none, and nothing has been done. The caller has forbidden new privileges. Raises `OSError`.
    """
    version = landlock_version()
    if version == 0:
        return 0
    handled = (1 << _FILE_RIGHTS.get(version, _FILE_RIGHTS_NEWEST)) - 1
    ruleset = _Ruleset(handled, 0, 0)
    if version >= _NETWORK_SINCE and not network:
        ruleset.network = _TCP_BIND | _TCP_CONNECT
    if version >= _SCOPES_SINCE:
        ruleset.scopes = _SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL
    size = ctypes.sizeof(ruleset) if version >= _SCOPES_SINCE else 16 if version >= _NETWORK_SINCE else 8
    descriptor = _check(
        _libc.syscall(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))
    )
    try:
        for path in readable:
            _allow(descriptor, path, _READ & handled)
        for path in writable:
            _allow(descriptor, path, handled & ~_MAKE_DEVICES & ~_EXECUTE)
        for port in ports if ruleset.network else ():
            rule = _NetPort(_TCP_CONNECT, port)
            _check(_libc.syscall(_ADD_RULE, descriptor, _NET_PORT, ctypes.byref(rule), ctypes.c_uint32(0)))
        _check(_libc.syscall(_RESTRICT_SELF, descriptor, ctypes.c_uint32(0)))
    finally:
        os.close(descriptor)
    return version


def _allow(ruleset: int, path: Path, rights: int) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        directory = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(directory).st_mode):
                rights &= _OF_A_FILE
            rule = _PathBeneath(rights, directory)
            _check(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0)))
        finally:
            os.close(directory)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return int(result)
