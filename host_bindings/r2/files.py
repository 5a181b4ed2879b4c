"""The files that hold objects' bytes. Everything here blocks.

A file's name is random and says nothing of the key. While a file is written it has an entry in `incoming`, which stays
until the outcome of its commit is known, and a lock that ends with its writer. So whatever a crash leaves behind has an
entry there and no lock, and is found without looking through all objects.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from host_bindings.cached import open_cached
from host_bindings.storage.directories import make_directory, sync_directory

_COPY_BYTES = 16 * 1024 * 1024


class ObjectFiles:
    """The files of one bucket."""

    def __init__(self, directory: Path) -> None:
        self._objects = directory / "objects"
        self._objects_encoded = os.fsencode(self._objects)
        self._incoming = directory / "incoming"

    def create(self, hashes: Sequence[str] = ()) -> IncomingFile:
        """A new file that computes `hashes` (hashlib's names) of what is written."""
        while True:
            name = secrets.token_hex(16)
            entry = self._incoming / name
            try:
                descriptor = os.open(entry, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                make_directory(self._incoming)
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # A sweep in another process may have come between the two lines above.
                if os.fstat(descriptor).st_nlink:
                    return IncomingFile(name, entry, self.path(name), descriptor, hashes)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def path(self, name: str) -> Path:
        return self._objects / name[:2] / name

    def open(self, name: str) -> int:
        """A descriptor for reading. Raises `FileNotFoundError`."""
        return os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)

    def open_cached(self, name: str) -> int:
        """The same without waiting. Raises `BlockingIOError` if it would have to."""
        return open_cached(b"%b/%b/%b" % (self._objects_encoded, name[:2].encode(), name.encode()))

    def remove(self, names: Sequence[str]) -> None:
        """Removes files that no metadata names any more. Who has one open can go on reading it."""
        for name in names:
            self.path(name).unlink(missing_ok=True)

    def leftovers(self) -> Iterator[Leftover]:
        """What crashed writers have left, each locked by this process until it is closed."""
        try:
            names = os.listdir(self._incoming)
        except FileNotFoundError:
            return
        for name in names:
            try:
                descriptor = os.open(self._incoming / name, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            yield Leftover(name, self._incoming / name, self.path(name), descriptor)


class Leftover:
    """A file whose writer is gone."""

    def __init__(self, name: str, entry: Path, path: Path, descriptor: int) -> None:
        self.name = name
        self._entry = entry
        self._path = path
        self._descriptor = descriptor

    def clear(self, *, in_use: bool) -> None:
        """Keeps the file if it is `in_use`, that is if the metadata names it, and removes all other traces."""
        if not in_use:
            self._path.unlink(missing_ok=True)
        self._entry.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class IncomingFile:
    """A file that is being written. It ends with one of `keep`, `discard` and `abandon`."""

    def __init__(self, name: str, entry: Path, path: Path, descriptor: int, hashes: Sequence[str]) -> None:
        self.name = name
        self.size = 0
        self._entry = entry
        self._path = path
        self._descriptor = -1
        # A caller that is cancelled discards the file while a thread may still be writing.
        self._lock = threading.Lock()
        self._digests = {each: hashlib.new(each, usedforsecurity=False) for each in hashes}
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        with self._lock:
            self._check_open()
            for digest in self._digests.values():
                digest.update(data)
            self.size += len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def append_file(self, source: Path) -> bool:
        """Appends another file's bytes, within the kernel where it can; False if there is no such file.

        The bytes do not count in the hashes.
        """
        with self._lock:
            self._check_open()
            try:
                descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            try:
                while copied := _copy(descriptor, self._descriptor):
                    self.size += copied
            finally:
                os.close(descriptor)
            return True

    def digest(self, name: str) -> str:
        return self._digests[name].hexdigest()

    def publish(self) -> None:
        """Puts the file in its place. When this returns its bytes and its name are on disk."""
        with self._lock:
            self._check_open()
            # The name first: then one commit of the file system's journal has both. A file that a crash leaves behind
            # half written has its entry in `incoming`, and no metadata names it yet.
            try:
                os.link(self._entry, self._path)
            except FileNotFoundError:
                make_directory(self._path.parent)
                os.link(self._entry, self._path)
            os.fsync(self._descriptor)
            sync_directory(self._path.parent)

    def keep(self) -> None:
        """The metadata that names the file is on disk."""
        self._end(unlink_entry=True)

    def discard(self) -> None:
        """No metadata names the file or ever will."""
        self._end(unlink_entry=True, unlink_file=True)

    def abandon(self) -> None:
        """Nobody knows whether the metadata that names the file is on disk: the next sweep will."""
        self._end(unlink_entry=False)

    def _end(self, *, unlink_entry: bool, unlink_file: bool = False) -> None:
        with self._lock:
            if self._descriptor < 0:
                return
            try:
                if unlink_file:
                    self._path.unlink(missing_ok=True)
                if unlink_entry:
                    self._entry.unlink(missing_ok=True)
            finally:
                os.close(self._descriptor)
                self._descriptor = -1

    def _check_open(self) -> None:
        if self._descriptor < 0:
            raise OSError("the file has been closed")

    def __del__(self) -> None:
        self.abandon()


def _copy(source: int, target: int) -> int:
    try:
        return os.copy_file_range(source, target, _COPY_BYTES)
    except OSError:
        # Not on this file system or kernel.
        data = os.read(source, _COPY_BYTES)
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
        return len(data)
