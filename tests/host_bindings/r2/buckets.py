"""Buckets under test, and streams to put into them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from host_bindings.body import Body
from host_bindings.r2.objects import Range
from host_bindings.r2.store import SMALL_FILE_BYTES, Bucket
from tests.host_bindings.storage.inputs import Clock

PART_BYTES_MIN = 100

NONE_SMALL = -1
"""As `small_bytes_max`: every object is a file on disk."""


class Pieces(Body):
    """A stream that comes in pieces and says, perhaps wrongly, how long it is."""

    def __init__(self, pieces: list[bytes], length: int | None = None) -> None:
        self.pieces = pieces
        self.length = length
        self.closed = False

    async def read(self, limit: int) -> bytes:
        await asyncio.sleep(0)
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > limit:
            self.pieces.insert(0, piece[limit:])
        return piece[:limit]

    def close(self) -> None:
        self.closed = True


def using(
    directory: Path,
    work: Callable[[Bucket], Awaitable[None]],
    clock: Clock | None = None,
    *,
    small_bytes_max: int = SMALL_FILE_BYTES,
) -> None:
    async def main() -> None:
        bucket = Bucket(
            directory,
            clock=clock or Clock(1_700_000_000),
            part_bytes_min=PART_BYTES_MIN,
            small_bytes_max=small_bytes_max,
        )
        try:
            await work(bucket)
        finally:
            await bucket.close()

    asyncio.run(main())


async def read(bucket: Bucket, key: str, range: Range | None = None) -> bytes | None:
    found = await bucket.get(key, range=range)
    if found is None:
        return None
    assert found.body is not None
    try:
        return await found.body.read_all(10**9)
    finally:
        found.body.close()


def contents_kept(directory: Path) -> int:
    """How many objects' bytes the bucket keeps, on disk or with its metadata."""
    with closing(sqlite3.connect(directory / "r2.sqlite")) as connection:
        ((small,),) = connection.execute("SELECT count(*) FROM small_files").fetchall()
    return len(object_files(directory)) + int(small)


def object_files(directory: Path) -> list[Path]:
    return [path for folder in ("objects", "incoming") for path in (directory / folder).rglob("*") if path.is_file()]


async def names(bucket: Bucket) -> list[str]:
    return [found.key for found in (await bucket.list()).objects]
