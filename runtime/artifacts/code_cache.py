"""Machine code ready to be mapped: a bounded cache on disk, in which nothing is trusted unread.

Under `machine-code/<fingerprint of the engine>/<name>/` lie `code` and `code.hmac`. Whoever is about to open the code
holds a lease: a shared lock on its directory, which keeps every process from evicting it. When there is too much, the
least recently used goes; a directory's time of change says when it was used.

Small code that goes, a worker's own part, is packed rather than deleted: unpacking it takes milliseconds, and making it
again a compile process. It lies in `machine-code-packed/<fingerprint>/<name>`, its HMAC first. It need not be on disk:
what a power failure has torn is not authentic, and is made again.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.artifacts.authenticity import Authenticator
from runtime.artifacts.files import Workspace, move_into_place, private_directory, sync, try_lock
from runtime.artifacts.packing import Damaged, pack_bytes, unpack_bytes

logger = logging.getLogger(__name__)

PACKED_BYTES_MAX = 1024 * 1024
"""Machine code that is larger is not packed when it is evicted: others share it, or it would take much room."""

_HMAC_BYTES = 32

_Identity = tuple[int, int, int, int]


@dataclass(frozen=True)
class Lease:
    """Machine code that has been verified and stays where it is until `descriptor` is closed."""

    path: Path
    descriptor: int

    def release(self) -> None:
        os.close(self.descriptor)


class CodeCache:
    """Every method blocks: call them in a thread."""

    def __init__(
        self,
        directory: Path,
        workspace: Workspace,
        authenticator: Authenticator,
        fingerprint: str,
        bytes_max: int,
        *,
        just_used_s: float,
    ) -> None:
        self._root = directory
        self._directory = directory / fingerprint
        self._workspace = workspace
        self._authenticator = authenticator
        self._fingerprint = fingerprint
        self._bytes_max = bytes_max
        self._just_used_s = just_used_s
        self._verified: dict[str, _Identity] = {}
        """Files whose authenticity this process has checked, as they were then."""
        packed = directory.with_name(f"{directory.name}-packed")
        self._packed = packed / fingerprint
        for each in (directory, self._directory, packed, self._packed):
            private_directory(each)
        for stale in packed.iterdir():
            if stale != self._packed:
                workspace.discard(stale)

    def lease(self, name: str) -> Lease | None:
        """The machine code of that name; None if there is none. What is not authentic is deleted, with an alert."""
        entry = self._directory / name
        descriptor = try_lock(entry, shared=True)
        if descriptor is None and self._bring_back(name):
            descriptor = try_lock(entry, shared=True)
        if descriptor is None:
            return None
        try:
            authentic = self._is_authentic(name, entry)
            if authentic:
                os.utime(descriptor)
                return Lease(entry / "code", descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        logger.error("machine code %s is not what this host made; it was deleted and will be made again", name)
        self.discard(name)
        return None

    def has(self, name: str) -> bool:
        """Whether there is authentic machine code of that name."""
        lease = self.lease(name)
        if lease is not None:
            lease.release()
        return lease is not None

    def put(self, name: str, code: Path) -> None:
        """Takes in a file of machine code that this host has just compiled, and makes room for it."""
        with self._workspace.room() as room:
            entry = room / name
            entry.mkdir(mode=0o700)
            code.rename(entry / "code")
            identity = _identity(entry / "code")
            seal = self._authenticator.code(entry / "code", name, self._fingerprint)
            (entry / "code.hmac").write_bytes(seal)
            for path in (entry / "code", entry / "code.hmac", entry):
                sync(path)
            # Where another process was faster, its code is as good.
            if move_into_place(entry, self._directory / name):
                self._verified[name] = identity
        self._evict(spared=name)

    def discard(self, name: str) -> None:
        """Deletes the code of that name for every engine. Code that is mapped stays mapped."""
        self._verified.pop(name, None)
        for engine in self._root.iterdir():
            if (engine / name).exists():
                self._workspace.discard(engine / name)
        (self._packed / name).unlink(missing_ok=True)

    def _pack(self, entry: Path) -> None:
        """Keeps the code of an entry that is about to go, if it is for this engine, and small, and it can be done."""
        # A full disk or a missing seal must not keep the entry from going.
        with suppress(OSError), self._workspace.room() as room:
            if entry.parent != self._directory or (entry / "code").stat().st_size > PACKED_BYTES_MAX:
                return
            content = (entry / "code.hmac").read_bytes() + pack_bytes((entry / "code").read_bytes())
            (room / entry.name).write_bytes(content)
            (room / entry.name).replace(self._packed / entry.name)

    def _bring_back(self, name: str) -> bool:
        """Whether there is packed code of that name; puts it where it was. Whether it is authentic shows there."""
        try:
            content = (self._packed / name).read_bytes()
            code = unpack_bytes(content[_HMAC_BYTES:], PACKED_BYTES_MAX)
        except FileNotFoundError:
            return False
        except Damaged:
            (self._packed / name).unlink(missing_ok=True)
            return False
        with self._workspace.room() as room:
            entry = room / name
            entry.mkdir(mode=0o700)
            (entry / "code").write_bytes(code)
            (entry / "code.hmac").write_bytes(content[:_HMAC_BYTES])
            move_into_place(entry, self._directory / name)
        self._evict(spared=name)
        return True

    def _is_authentic(self, name: str, entry: Path) -> bool:
        try:
            identity = _identity(entry / "code")
            if self._verified.get(name) == identity:
                return True
            seal = (entry / "code.hmac").read_bytes()
            if not self._authenticator.is_authentic(entry / "code", name, self._fingerprint, seal):
                return False
        except OSError:
            return False
        self._verified[name] = identity
        return True

    def _evict(self, spared: str) -> None:
        """Deletes what was least recently used until the cache is within its bound, or the rest is in use."""
        entries = []
        for entry in self._root.glob("*/*"):
            try:
                entries.append((entry.stat().st_mtime, (entry / "code").stat().st_size, entry))
            except OSError:
                continue  # another process has just evicted it
        excess = sum(size for _, size, _ in entries) - self._bytes_max
        used_before = time.time() - self._just_used_s
        for used, size, entry in sorted(entries):
            if excess <= 0 or used > used_before:
                break
            if entry == self._directory / spared:
                continue
            descriptor = try_lock(entry, shared=False)
            if descriptor is None:
                continue
            try:
                self._verified.pop(entry.name, None)
                self._pack(entry)
                self._workspace.discard(entry)
                excess -= size
            finally:
                os.close(descriptor)


def _identity(path: Path) -> _Identity:
    """Changes whenever the file's content may have changed."""
    status = path.lstat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
