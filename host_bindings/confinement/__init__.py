"""The second wall: what a process of the platform gives up, for the case that hostile code gets out of the first.

Linux lets a process do that without privileges: no new privileges, Landlock for files, TCP and signals, seccomp for
system calls. Where the kernel has only some of it, that much is done; `cloister doctor` says what there is. For whoever
starts a process: the server, the SQL processes, the compiler's. Imports nothing of the project.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from host_bindings.confinement.landlock import landlock_version, restrict_files
from host_bindings.confinement.parent import end_with_parent
from host_bindings.confinement.system_calls import (
    ADMINISTRATION,
    NETWORK,
    PROGRAMS,
    SIGNALS,
    deny_system_calls,
    system_calls_can_be_denied,
)

_PR_SET_NO_NEW_PRIVS = 38

_PROJECT = Path(__file__).resolve().parents[2]
_ROOMS = ("host_bindings", "runtime", "guest_sdk", "examples")

_MACHINE_FILES = (
    *("/proc/self", "/proc/stat", "/proc/meminfo", "/proc/cpuinfo", "/proc/sys/net/core/somaxconn"),
    *("/sys/devices/system/cpu", "/sys/fs/cgroup", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl"),
)
"""What a server may want to know of the machine; names and certificates are for dispatch code that calls out."""

_SYSTEM_FILES = (
    *("/usr", "/lib", "/lib64", "/bin", "/etc/localtime", "/etc/ld.so.cache", "/etc/ld.so.preload"),
    *("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"),
)


@dataclass(frozen=True)
class Confinement:
    """What holds for a process: Landlock's version (0: none), whether system calls are denied."""

    landlock: int
    system_calls: bool

    @property
    def is_whole(self) -> bool:
        return self.landlock > 0 and self.system_calls


def available() -> Confinement:
    """What this machine can do."""
    return Confinement(landlock_version(), system_calls_can_be_denied())


def confine_child(readable: Iterable[Path], writable: Iterable[Path]) -> Confinement:
    """For a process that works on hostile input: the named files and Python's own, and nothing else.

    No programs, no sockets beside those that it has, no signals. Call it before there are threads. Raises `OSError`.
    """
    forbid_new_privileges()
    landlock = restrict_files([*python_files(), *readable], [Path("/dev/null"), *writable])
    return Confinement(landlock, deny_system_calls(ADMINISTRATION, PROGRAMS, NETWORK, SIGNALS))


def deny_administration() -> bool:
    """For a server process: none of the calls that no process of the platform needs. False where it cannot be done.

    Call it before the event loop is made: libuv makes an io_uring with it if it can, and dies when that is taken away.
    Raises `OSError`.
    """
    forbid_new_privileges()
    return deny_system_calls(ADMINISTRATION)


def confine_server(
    readable: Iterable[Path], writable: Iterable[Path], *, network: bool, ports: Iterable[int] = ()
) -> int:
    """For a server process, which starts the others; gives Landlock's version, 0 if there is none.

    `network`: whether it may open TCP connections and ports; without it, only connections to `ports`. Its listening
    sockets are there already. Call it before there are threads. Raises `OSError`.
    """
    forbid_new_privileges()
    readable = [*python_files(), *map(Path, _MACHINE_FILES), *readable]
    return restrict_files(readable, [Path("/dev/null"), *writable], network=network, ports=ports)


def forbid_new_privileges() -> None:
    """No program that this process starts gains rights (set-user-ID and the like)."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def python_files() -> list[Path]:
    """What a Python process of this installation reads: the interpreter, its packages, this project, the C library."""
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, sysconfig.get_path("stdlib")}
    places |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    # Not the project's folder itself: the data directory may lie in it.
    places |= {str(_PROJECT / room) for room in _ROOMS}
    # A virtual environment's interpreter is a link to one that may lie elsewhere.
    places.add(str(Path(sys.executable).resolve().parent.parent))
    return [Path(place) for place in (*sorted(places), *_SYSTEM_FILES)]


__all__ = [
    "Confinement",
    "available",
    "confine_child",
    "confine_server",
    "deny_administration",
    "end_with_parent",
    "python_files",
]
