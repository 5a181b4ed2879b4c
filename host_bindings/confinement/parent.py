"""A process that ends with the one that started it, whatever it is doing."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """From now on the kernel ends this process when its parent dies; it ends at once if `parent`, a process id, is not
    its parent any more.

    Linux alone: elsewhere it does nothing. The kernel means the thread that started the process: that must be one that
    lives as long as its process does.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent may have died before the kernel was asked.
        if os.getppid() != parent:
            os._exit(1)
