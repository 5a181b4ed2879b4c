"""Writers in processes of their own, killed while they write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def acknowledged_before_kill(module: str, directory: Path, count: int) -> list[str]:
    """Runs a module that prints a line for each write that was answered, and kills it after `count` lines.

    Returns all lines that it got to print.
    """
    command = [sys.executable, "-m", module, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(count)]
        process.kill()
        lines += process.stdout.readlines()
    assert all(lines), "the writer ended by itself"
    # The last line may be cut off by the kill; then it says nothing.
    return [line.rstrip("\n") for line in lines if line.endswith("\n")]
