"""seccomp: a process gives up system calls that it has no use for, and with them much of the kernel's surface.

A denied call fails with EPERM, as if it needed a privilege. Numbers are those of x86-64 (the kernel's
arch/x86/entry/syscalls/syscall_64.tbl); elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Mapping

_SECCOMP, _SET_MODE_FILTER, _ALL_THREADS = 317, 1, 1
_ARCHITECTURE = 0xC000003E
_X32 = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16

_CLONE, _CLONE3 = 56, 435
_CLONE_THREAD = 0x00010000

ADMINISTRATION: Mapping[str, int] = {
    # Other processes' memory and descriptors.
    "ptrace": 101,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "kcmp": 312,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    # Parts of the kernel with a history of flaws, of no use here.
    "bpf": 321,
    "perf_event_open": 298,
    "userfaultfd": 323,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "modify_ldt": 154,
    "personality": 135,
    "vhangup": 153,
    # File systems, namespaces, handles that pass by the path.
    "mount": 165,
    "umount2": 166,
    "pivot_root": 155,
    "chroot": 161,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "mount_setattr": 442,
    "setns": 308,
    "unshare": 272,
    "name_to_handle_at": 303,
    "open_by_handle_at": 304,
    "quotactl": 179,
    "quotactl_fd": 443,
    "swapon": 167,
    "swapoff": 168,
    # The machine.
    "init_module": 175,
    "finit_module": 313,
    "delete_module": 176,
    "kexec_load": 246,
    "kexec_file_load": 320,
    "reboot": 169,
    "acct": 163,
    "syslog": 103,
    "iopl": 172,
    "ioperm": 173,
    "settimeofday": 164,
    "clock_settime": 227,
    "clock_adjtime": 305,
    "adjtimex": 159,
    "sethostname": 170,
    "setdomainname": 171,
}
"""What no process of the platform needs."""

PROGRAMS: Mapping[str, int] = {"execve": 59, "execveat": 322, "fork": 57, "vfork": 58}
"""Starting programs and processes. Threads stay possible."""

NETWORK: Mapping[str, int] = {"socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "accept4": 288}
"""New sockets. Those that are there can be used."""

SIGNALS: Mapping[str, int] = {"kill": 62, "tkill": 200, "rt_sigqueueinfo": 129, "pidfd_send_signal": 424}
"""Signals to other processes. A process can end itself (tgkill)."""


def system_calls_can_be_denied() -> bool:
    return sys.platform == "linux" and platform.machine() == "x86_64" and sys.maxsize > 2**32


def deny_system_calls(*groups: Mapping[str, int]) -> bool:
    """Denies all calls of the groups to this process, its threads and whatever it starts, for good.

    The caller has forbidden new privileges. False where it cannot be done: the kernel lacks it, or a container forbids
    it. Raises `OSError`.
    """
    if not system_calls_can_be_denied():
        return False
    numbers = sorted({number for group in groups for number in group.values()})
    program = _program(numbers, threads_only=any("fork" in group for group in groups))
    libc = ctypes.CDLL(None, use_errno=True)
    instructions = ctypes.create_string_buffer(program)
    described = _Program(len(program) // 8, ctypes.addressof(instructions))
    if libc.syscall(_SECCOMP, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(described)) != 0:
        number = ctypes.get_errno()
        if number in (errno.ENOSYS, errno.EPERM):
            return False
        raise OSError(number, f"seccomp: {os.strerror(number)}")
    return True


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _program(denied: list[int], *, threads_only: bool) -> bytes:
    """The filter in classic BPF: (code, jump if true, jump if false, operand)."""
    deny, unknown = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _ARCHITECTURE),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, deny),
    ]
    for number in denied:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, deny)]
    if threads_only:
        # clone3 has its flags in memory, where a filter cannot look; without it the C library takes clone.
        steps += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, unknown)]
        steps += [
            (_EQUAL, 0, 3, _CLONE),
            (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
            (_ANY_BIT, 1, 0, _CLONE_THREAD),
            (_RETURN, 0, 0, deny),
        ]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
