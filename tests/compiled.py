"""Machine code of what all Python workers share, compiled once for all test processes.

A server on an empty directory compiles CPython first, which takes longer than most tests. What it made is kept under
the user's cache folder by the code that made it, and may be deleted at any time; a test never needs it to be there.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tests.components import cache_directory

ROOT = Path(__file__).parents[1]


def seed_artifacts(data: Path, make: Callable[[Path], None]) -> None:
    """Puts kept artifacts into a data directory that has none. `make` fills an empty data directory with them."""
    if (data / "artifacts").exists():
        return

    def artifacts(folder: Path) -> Path:
        make(folder / "data")
        return folder / "data" / "artifacts"

    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy_kept("artifacts", code_state(), artifacts, data / "artifacts")


def copy_kept(name: str, state: str, make: Callable[[Path], Path], target: Path) -> None:
    """Copies a folder that is made once for each `state`, by one process while others wait, to `target`.

    `make` works in an empty folder and gives what in it is to be kept. What was kept of another state goes.
    """
    kept = cache_directory() / f"{name}-{state}"
    with (cache_directory() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            for outdated in cache_directory().glob(f"{name}-*"):
                shutil.rmtree(outdated)
            with tempfile.TemporaryDirectory(dir=cache_directory()) as scratch:
                make(Path(scratch)).replace(kept)
        shutil.copytree(kept, target)


@cache
def code_state() -> str:
    """Names all code that compiles or keeps."""
    state = hashlib.sha256()
    rooms = ("runtime", "host_bindings", "guest_sdk")
    for path in sorted(path for room in rooms for path in (ROOT / room).rglob("*") if path.suffix in (".py", ".wit")):
        state.update(path.read_bytes())
    return state.hexdigest()[:24]
