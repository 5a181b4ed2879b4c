"""Files that are there whole or not at all, and still there after a power failure."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DIRECTORY_MODE = 0o700


def private_directory(path: Path) -> None:
    """Makes a directory that only this user may enter. Raises `PermissionError` if it is another's or a link."""
    path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(f"{path} must be a directory of this user")
    if stat.S_IMODE(status.st_mode) != DIRECTORY_MODE:
        path.chmod(DIRECTORY_MODE)


def sync(path: Path) -> None:
    """Waits until a file's or a directory's content is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_into_place(source: Path, target: Path) -> bool:
    """Renames a complete file or directory (with its files on disk already). False if the target is there already."""
    try:
        if target.exists():
            return False
        source.rename(target)
    except OSError:
        # A directory that another process put there meanwhile.
        if not target.exists():
            raise
        return False
    sync(target.parent)
    return True


@contextmanager
def locked(path: Path, *, shared: bool) -> Iterator[None]:
    """Holds a lock between processes (and threads) on a directory, or on a file that is made if need be. Blocks."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def try_lock(path: Path, *, shared: bool) -> int | None:
    """Locks a file or directory for as long as the descriptor that is returned is open; None if it cannot be had."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        # Whoever had the lock before may have moved the file away.
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


class Workspace:
    """Room for files on their way in. What a process leaves behind, the next one that starts sweeps away."""

    def __init__(self, directory: Path) -> None:
        private_directory(directory)
        # One that starts at the same time must not find a directory that has been made and is not locked yet.
        with locked(directory, shared=False):
            sweep(directory)
            self._path = Path(tempfile.mkdtemp(dir=directory))
            self._lock = try_lock(self._path, shared=True)

    @contextmanager
    def room(self) -> Iterator[Path]:
        """A new directory, removed at the end."""
        path = self.new()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def new(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._path))

    def discard(self, path: Path) -> None:
        """Takes a file or directory out of its place at once, then deletes it."""
        trash = self.new()
        with suppress(FileNotFoundError):
            path.rename(trash / path.name)
        shutil.rmtree(trash, ignore_errors=True)

    def close(self) -> None:
        shutil.rmtree(self._path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def sweep(directory: Path) -> None:
    """Deletes the workspaces of processes that are gone: a living one holds a lock on its own."""
    for leftover in directory.iterdir():
        lock = try_lock(leftover, shared=False)
        if lock is not None:
            try:
                shutil.rmtree(leftover, ignore_errors=True)
            finally:
                os.close(lock)
