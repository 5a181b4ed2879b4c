"""Writes to a KV namespace until it is killed, and prints what was answered: `python -m … DIRECTORY`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from host_bindings.kv.store import KVNamespace


def content(key: str) -> bytes:
    """Values long and short, so that both ways of keeping them are met."""
    return key.encode() * (1 + sum(key.encode()) % 200)


async def main(directory: Path) -> None:
    namespace = KVNamespace(directory)

    async def write(writer: int) -> None:
        n = 0
        while True:
            key = f"{writer}/{n}"
            await namespace.put(key, content(key))
            if n % 3 == 0:
                await namespace.delete(key)
                os.write(1, f"deleted {key}\n".encode())
            else:
                os.write(1, f"put {key}\n".encode())
            n += 1

    await asyncio.gather(*[write(writer) for writer in range(8)])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
