"""What a database was like: the pages that later writes replaced, kept beside it for as long as time travel reaches.

The log knows *sealed states*, numbered. Between two seals lie the pages that were changed from the one to the other, as
they were at the first. From the present file one gets to an earlier state by putting the pages back, the newest first,
down to the seal in question. So the oldest part can be deleted at any time, and what is never restored costs no copy.

One file for each hour. A record: what it is, length and CRC-32 of its content. Only whoever holds the lock file's lock
may read or write. Knows nothing of SQLite (see `checkpoint`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
import zstandard

from host_bindings.d1.limits import SqlLimits

_HEADER = struct.Struct("<4sII")
_PAGES, _SEAL = b"page", b"seal"
_PAGES_HEAD = struct.Struct("<II")
_HOUR_MS = 3_600_000
_COMPRESSION_LEVEL = 1
_BATCH_PAGES = 1_024
"""Pages in one record."""


class Seal(msgspec.Struct, frozen=True, array_like=True):
    """A state that can be restored."""

    number: int
    time_ms: int
    """When it was sealed, in milliseconds since 1970."""
    last_write_ms: int
    """When the last write before it was; 0 if there was none: the database was empty."""
    pages: int
    """The size of the database."""
    salts: tuple[int, int]
    """Which write-ahead log, and how many of its frames, the state includes."""
    frames: int


@dataclass
class _Tail:
    """The newest seal, and the pages that have been kept since."""

    seal: Seal | None
    kept: set[int]


class History:
    """Of one database, whose directory is `directory`. Use it inside `locked`."""

    def __init__(self, directory: Path, limits: SqlLimits) -> None:
        self.directory = directory / "history"
        self._limits = limits
        self._tail: _Tail | None = None
        self._seen: tuple[str, int] | None = None
        """The newest file and its size when `_tail` was read."""

    @contextlib.contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[bool]:
        """Holds the lock, which is one among all processes. False if `wait` is False and another holds it."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        with (self.directory / "lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    # Writing

    def keep(self, numbers: Sequence[int], read: Callable[[int], bytes]) -> None:
        """Adds pages as they were at the newest seal. `read` gives a page. On disk when this returns."""
        tail = self._read_tail()
        with self._append() as file:
            for start in range(0, len(numbers), _BATCH_PAGES):
                batch = numbers[start : start + _BATCH_PAGES]
                content = b"".join(map(read, batch))
                head = _PAGES_HEAD.pack(len(content) // len(batch), len(batch))
                packed = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL).compress(content)
                _write(file, _PAGES, head + struct.pack(f"<{len(batch)}I", *batch) + packed)
        tail.kept.update(numbers)

    def seal(self, seal: Seal) -> None:
        """From here on another state counts. On disk when this returns."""
        tail = self._read_tail()
        with self._append() as file:
            _write(file, _SEAL, msgspec.msgpack.encode(seal))
        tail.seal, tail.kept = seal, set()
        self._delete_old(seal.time_ms)

    def drop(self) -> None:
        """Deletes everything: what is kept from here on is a new history."""
        for path in self._files():
            path.unlink(missing_ok=True)
        self._tail = self._seen = None

    @contextlib.contextmanager
    def _append(self) -> Iterator[BinaryIO]:
        path = self.directory / f"{time.time_ns() // 1_000_000 // _HOUR_MS:08x}.log"
        files = self._files()
        if files and files[-1].name > path.name:  # the clock went back
            path = files[-1]
        with path.open("ab") as file:
            before = file.tell()
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                # What may not have come to the disk must not be taken for kept.
                self._tail = self._seen = None
                with contextlib.suppress(OSError):
                    file.flush()
                os.truncate(path, before)
                raise
            self._seen = (path.name, file.tell())
        if not files or files[-1] != path:
            _fsync_directory(self.directory)

    def _delete_old(self, now_ms: int) -> None:
        files = self._files()
        sizes = {path: path.stat().st_size for path in files}
        oldest = f"{(now_ms - self._limits.history_ms) // _HOUR_MS:08x}.log"
        for path in files[:-1]:
            if path.name >= oldest and sum(sizes.values()) <= self._limits.history_bytes:
                break
            path.unlink(missing_ok=True)
            del sizes[path]

    @property
    def full(self) -> bool:
        """What is kept is too much even without all but the newest hour."""
        files = self._files()
        return bool(files) and files[-1].stat().st_size > self._limits.history_bytes

    # Reading

    @property
    def newest(self) -> Seal | None:
        return self._read_tail().seal

    @property
    def kept(self) -> set[int]:
        """The numbers of the pages that have been kept since the newest seal."""
        return self._read_tail().kept

    def seals(self) -> list[Seal]:
        """All that can be restored, the oldest first."""
        return [
            msgspec.msgpack.decode(_content(file, length), type=Seal)
            for path in self._files()
            for file, kind, length in _records(path)
            if kind == _SEAL
        ]

    def pages_since(self, number: int) -> Iterator[tuple[int, bytes]]:
        """The pages to put back to get from the present to the state of that number, in this order.

        What comes later replaces what came earlier.
        """
        for path in reversed(self._files()):
            records = [(file.tell(), kind, length) for file, kind, length in _records(path)]
            with path.open("rb") as file:
                for position, kind, length in reversed(records):
                    file.seek(position)
                    if kind == _PAGES:
                        yield from _pages(_content(file, length))
                    elif msgspec.msgpack.decode(_content(file, length), type=Seal).number <= number:
                        return

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob("*.log"))

    def _read_tail(self) -> _Tail:
        """Reads it anew if another process has written."""
        files = self._files()
        seen = (files[-1].name, files[-1].stat().st_size) if files else None
        if self._tail is not None and seen == self._seen:
            return self._tail
        if files:
            _cut_torn_end(files[-1])
        kept: set[int] = set()
        seal = None
        for path in reversed(files):
            later: set[int] = set()
            for file, kind, length in _records(path):
                if kind == _SEAL:
                    seal = msgspec.msgpack.decode(_content(file, length), type=Seal)
                    later = set()
                else:
                    later.update(_numbers(file))
            kept |= later
            if seal is not None:
                break
        self._tail = _Tail(seal, kept)
        self._seen = (files[-1].name, files[-1].stat().st_size) if files else None
        return self._tail


def _write(file: BinaryIO, kind: bytes, content: bytes) -> None:
    file.write(_HEADER.pack(kind, len(content), zlib.crc32(content)))
    file.write(content)


def _records(path: Path) -> Iterator[tuple[BinaryIO, bytes, int]]:
    """(file, kind, length) for each whole record; the file stands at its content."""
    size = path.stat().st_size
    with path.open("rb") as file:
        position = 0
        while position + _HEADER.size <= size:
            file.seek(position)
            kind, length, _ = _HEADER.unpack(file.read(_HEADER.size))
            end = position + _HEADER.size + length
            if kind not in (_PAGES, _SEAL) or end > size:
                return
            yield file, kind, length
            position = end


def _content(file: BinaryIO, length: int) -> bytes:
    """Raises `HistoryDamaged`."""
    file.seek(-_HEADER.size, os.SEEK_CUR)
    _, _, checksum = _HEADER.unpack(file.read(_HEADER.size))
    content = file.read(length)
    if zlib.crc32(content) != checksum:
        raise HistoryDamaged
    return content


class HistoryDamaged(Exception):
    """A record is not what was written."""


def _numbers(file: BinaryIO) -> tuple[int, ...]:
    _, count = _PAGES_HEAD.unpack(file.read(_PAGES_HEAD.size))
    return struct.unpack(f"<{count}I", file.read(4 * count))


def _pages(content: bytes) -> Iterator[tuple[int, bytes]]:
    size, count = _PAGES_HEAD.unpack_from(content)
    start = _PAGES_HEAD.size + 4 * count
    numbers = struct.unpack_from(f"<{count}I", content, _PAGES_HEAD.size)
    data = zstandard.ZstdDecompressor().decompress(content[start:], max_output_size=size * count)
    for index, number in enumerate(numbers):
        yield number, data[index * size : (index + 1) * size]


def _cut_torn_end(path: Path) -> None:
    """A record that was being written when the process ended is not on disk as a whole; nothing relies on it."""
    end = 0
    with contextlib.suppress(HistoryDamaged):
        for file, _, length in _records(path):
            position = file.tell()
            if position + length == path.stat().st_size:
                _content(file, length)
            end = position + length
    if end < path.stat().st_size:
        os.truncate(path, end)


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
