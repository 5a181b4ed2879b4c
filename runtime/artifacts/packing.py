"""zstd, for what is kept at rest: streamed, and bounded when it is unpacked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import zstandard

LEVEL = 3
CHUNK_BYTES = 1024 * 1024
WINDOW_BYTES_MAX = 8 * 1024 * 1024


class Damaged(Exception):
    """A packed file is not what was stored."""


def pack(source: Path, target: Path) -> None:
    """Compresses a file into a new one; it is on disk when this returns."""
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    with source.open("rb") as reading, target.open("xb") as writing:
        compressor.copy_stream(reading, writing, size=source.stat().st_size)
        writing.flush()
        os.fsync(writing.fileno())


def unpack(source: Path, target: Path, size: int, sha256: str) -> None:
    """Restores a file of a known size and SHA-256 (hex). Raises `Damaged`, or `FileNotFoundError`."""
    state, left = hashlib.sha256(), size
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
    try:
        with source.open("rb") as reading, target.open("xb") as writing, decompressor.stream_reader(reading) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    raise Damaged
                state.update(chunk)
                writing.write(chunk)
    except zstandard.ZstdError:
        raise Damaged from None
    if left or state.hexdigest() != sha256:
        raise Damaged


def pack_bytes(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(content)


def unpack_bytes(packed: bytes, bytes_max: int) -> bytes:
    """Raises `Damaged` if it is not what was packed, or more than `bytes_max`."""
    try:
        with zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX).stream_reader(packed) as stream:
            content = stream.read(bytes_max + 1)
    except zstandard.ZstdError:
        raise Damaged from None
    if len(content) > bytes_max:
        raise Damaged
    return content
