"""Files that are opened and read from the kernel's caches, or not at all: fit for the event loop.

Linux alone can be asked that way (openat2 with RESOLVE_CACHED, preadv2 with RWF_NOWAIT). Elsewhere, and on file systems
that do not know it, the answer is always that it would have to wait, and a thread does the work.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

_NO_WAIT: int | None = getattr(os, "RWF_NOWAIT", None)

# <linux/openat2.h>; the number of the system call is the same on every architecture.
_OPENAT2 = 437
_AT_FDCWD = -100
_RESOLVE_CACHED = 0x20

_system_call = ctypes.PyDLL(None, use_errno=True).syscall if sys.platform == "linux" else None


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_HOW = _OpenHow(os.O_RDONLY | getattr(os, "O_CLOEXEC", 0), 0, _RESOLVE_CACHED)


def open_cached(path: bytes) -> int:
    """A descriptor for reading.

    Raises `BlockingIOError` if to find the file could take time, `FileNotFoundError` if there is none.
    """
    if _system_call is None:
        raise BlockingIOError
    descriptor: int = _system_call(_OPENAT2, _AT_FDCWD, path, ctypes.byref(_HOW), ctypes.sizeof(_HOW))
    if descriptor < 0:
        # Whatever else it is (an old kernel, a filter of system calls) shows when the file is opened on a thread.
        raise FileNotFoundError if ctypes.get_errno() == errno.ENOENT else BlockingIOError
    return descriptor


def can_be_asked(descriptor: int) -> bool:
    """Whether the file system tells that a read would have to wait."""
    if _NO_WAIT is None:
        return False
    try:
        os.preadv(descriptor, [bytearray(1)], 0, _NO_WAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def read_cached(descriptor: int, size: int, offset: int) -> bytes:
    """`size` bytes, or up to the file's end. Raises `BlockingIOError` if they are not all in memory."""
    if _NO_WAIT is None:
        raise BlockingIOError
    content = bytearray(size)
    try:
        count = os.preadv(descriptor, [content], offset, _NO_WAIT)
    except OSError:
        raise BlockingIOError from None
    if count == size:
        return bytes(content)
    # The system gives what it has: where a page is missing that is not the end of the file.
    if offset + count < os.fstat(descriptor).st_size:
        raise BlockingIOError
    return bytes(memoryview(content)[:count])
