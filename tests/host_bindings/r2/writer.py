"""Writes to a bucket until it is killed, and prints what was answered: `python -m … DIRECTORY`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from host_bindings.body import BytesBody
from host_bindings.r2.store import Bucket


def content(key: str) -> bytes:
    """Bytes short and long, so that both ways of writing them are met."""
    return key.encode() * (1 + sum(key.encode()) % 7 * 20_000)


async def main(directory: Path) -> None:
    bucket = Bucket(directory)

    async def write(writer: int) -> None:
        n = 0
        while True:
            key = f"{writer}/{n}"
            await bucket.put(key, b"replaced soon")
            await bucket.put(key, BytesBody(content(key)))
            if n % 3 == 0:
                await bucket.delete([key])
                os.write(1, f"deleted {key}\n".encode())
            else:
                os.write(1, f"put {key}\n".encode())
            n += 1

    await asyncio.gather(*[write(writer) for writer in range(8)])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
