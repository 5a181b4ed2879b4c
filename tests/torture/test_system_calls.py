"""Operations that are cut short at exactly their n-th write, fsync, rename, …, and ones whose n-th of these fails.

`strace` does it, which needs no privileges. `just torture` tries every n of every kind, `just test` a few.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.server import ROOT
from tests.runtime.artifacts.workers import wasm, worker
from tests.torture.buckets import assert_no_orphans
from tests.torture.scenarios import ATTEMPTS, SCENARIOS, WORKER, State, opened

CALLS = {
    "fsync": "fsync",
    "fdatasync": "fdatasync",
    "write": "write",
    "pwrite64": "pwrite64",
    "ftruncate": "ftruncate",
    "rename": "?rename,renameat,renameat2",
    "link": "?link,linkat",
    "unlink": "?unlink,unlinkat",
    "mkdir": "?mkdir,mkdirat",
}
"""What changes or secures something on the disk."""

FAULTS = {"fsync": "EIO", "fdatasync": "EIO", "write": "ENOSPC", "pwrite64": "ENOSPC", "rename": "EIO", "link": "EIO"}

N_MAX = 60
"""No operation makes so many calls of one kind."""

KILLED = "+++ killed by SIGKILL +++"


class Cut:
    """One run of an operation under strace, in a copy of a prepared directory."""

    def __init__(self, prepared: Path, directory: Path, name: str, injection: str, n: int) -> None:
        shutil.copytree(prepared, directory)
        trace = directory.with_name("trace")
        calls = CALLS[injection.partition(":")[0]]
        how = injection.partition(":")[2]
        # Each expression counts for itself, and strace counts each kind of call in each thread.
        command = ["strace", "-f", "-o", str(trace), "-e", f"trace={calls}", "-e", f"inject={calls}:{how}:when={n}"]
        command += [sys.executable, "-m", "tests.torture.scenarios", str(directory), name]
        run = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self.traced = trace.read_text()
        self.said = run.stdout
        self.errors = run.stderr
        self.status = run.returncode
        self.acknowledged = "acknowledged" in run.stdout
        self.hit = KILLED in self.traced or "(INJECTED)" in self.traced
        self.state: State = asyncio.run(_look(directory, name))
        assert_no_orphans(directory)


async def _look(directory: Path, name: str) -> State:
    """The state, and that operations go on."""
    async with opened(directory) as parts:
        state = await SCENARIOS[name].state(parts)
    async with opened(directory) as parts:
        await parts.kv.put("later", b"1")
        await parts.r2.put("later", b"1")
        await parts.r2.delete(["later"])
        await parts.query(("CREATE TABLE IF NOT EXISTS later (n)", []))
    return state


@pytest.fixture(scope="module", autouse=True)
def strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (Debian: apt-get install strace): no operation is cut short here")


@pytest.fixture
def prepared(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory in the state before the operation."""
    directory = tmp_path / "prepared"
    directory.mkdir()
    (directory / WORKER).write_bytes(wasm(worker()))

    async def prepare() -> None:
        async with opened(directory) as parts:
            await SCENARIOS[request.node.callspec.params["name"]].prepare(parts)

    asyncio.run(prepare())
    return directory


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """In full every operation; else every third one, since each needs a process under strace."""
    if "name" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full", default=False)
        metafunc.parametrize("name", list(SCENARIOS) if full else list(SCENARIOS)[::3])


def points(name: str, calls: list[str], full: bool) -> list[tuple[str, range | list[int]]]:
    """Which calls to stop: every n of each, or a few."""
    if full:
        return [(call, range(1, N_MAX)) for call in calls]
    chance = random.Random(name)
    return [(chance.choice(calls[:4]), [chance.randint(1, 3)])]


def test_an_operation_that_is_killed_is_done_or_not_and_done_if_it_was_acknowledged(
    name: str, prepared: Path, tmp_path: Path, full: bool, say: Callable[[str], None]
) -> None:
    kills = after = 0
    for call, numbers in points(name, list(CALLS), full):
        for n in numbers:
            cut = Cut(prepared, tmp_path / f"{call}-{n}", name, f"{call}:signal=KILL", n)
            assert cut.state == "after" or not cut.acknowledged, (call, n, cut.said)
            shutil.rmtree(tmp_path / f"{call}-{n}")
            if not cut.hit:
                assert cut.acknowledged, cut.errors
                break
            kills += 1
            after += cut.state == "after"
    if full:
        assert kills >= 3
        say(f"{kills} kills, {after} of them when it was done already, 0 half done or lost")


def test_an_operation_whose_system_call_fails_is_refused_clearly_and_can_be_done_again(
    name: str, prepared: Path, tmp_path: Path, full: bool, say: Callable[[str], None]
) -> None:
    faults = refused = 0
    for call, numbers in points(name, list(FAULTS), full):
        for n in numbers:
            cut = Cut(prepared, tmp_path / f"{call}-{n}", name, f"{call}:error={FAULTS[call]}", n)
            assert cut.status == 0, cut.errors
            # strace counts in each thread, so that a part that is opened in a new one meets the fault again and again.
            assert cut.acknowledged or cut.said.count("refused: ") == ATTEMPTS, (call, n, cut.said)
            assert cut.state == "after" or not cut.acknowledged, (call, n, cut.said)
            shutil.rmtree(tmp_path / f"{call}-{n}")
            if not cut.hit:
                break
            faults += 1
            refused += "refused" in cut.said
    if full:
        assert faults >= 2
        say(f"{faults} faults, {refused} of them refused, 0 acknowledged and lost")
