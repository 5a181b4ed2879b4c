"""The second wall: a process that has confined itself cannot do what it gave up, whatever code runs in it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from host_bindings.confinement import available

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(
    not available().is_whole,
    reason=f"this kernel cannot confine processes ({available()}): Landlock and seccomp on x86-64 are needed",
)

PRELUDE = """
import ctypes, errno, os, socket, subprocess, sys, threading
from pathlib import Path
from host_bindings.confinement import confine_child, confine_server, deny_administration

inside, outside = Path(sys.argv[1]), Path(sys.argv[2])

def denied(what):
    try:
        what()
    except (PermissionError, OSError) as error:
        return error.errno in (errno.EACCES, errno.EPERM, errno.EXDEV)
    return False

def system_call(number, *arguments):
    def call():
        if ctypes.CDLL(None, use_errno=True).syscall(number, *arguments) < 0:
            raise OSError(ctypes.get_errno(), "denied")
    return call
"""


def confined(tmp_path: Path, body: str) -> str:
    """What a process prints that runs `body` with a folder inside of its wall and one outside."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir(exist_ok=True)
        (folder / "file").write_text("content")
    finished = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(body), str(inside), str(outside)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


CHILD = "confine_child([], [inside])\n"
SERVER = "deny_administration(); confine_server([], [inside], network=False)\n"


@pytest.mark.parametrize("wall", [CHILD, SERVER], ids=["child", "server"])
def test_files_inside_stay_usable(tmp_path: Path, wall: str) -> None:
    body = """
        (inside / "new").write_text("x")
        os.rename(inside / "new", inside / "renamed")
        (inside / "folder").mkdir()
        os.rename(inside / "renamed", inside / "folder" / "moved")
        os.truncate(inside / "folder" / "moved", 0)
        os.unlink(inside / "folder" / "moved")
        print((inside / "file").read_text(), os.listdir(inside))
    """

    assert confined(tmp_path, wall + textwrap.dedent(body)).split()[0] == "content"


@pytest.mark.parametrize("wall", [CHILD, SERVER], ids=["child", "server"])
@pytest.mark.parametrize(
    "attempt",
    [
        'lambda: (outside / "file").read_text()',
        'lambda: (outside / "file").write_text("y")',
        'lambda: (outside / "new").write_text("y")',
        "lambda: os.listdir(outside)",
        'lambda: os.unlink(outside / "file")',
        'lambda: os.rename(outside / "file", inside / "taken")',
        'lambda: os.link(outside / "file", inside / "taken")',
        'lambda: os.truncate(outside / "file", 0)',
        'lambda: (inside / ".." / "outside" / "file").read_text()',
        'lambda: (os.symlink(outside / "file", inside / "link"), (inside / "link").read_text())',
        'lambda: Path("/etc/passwd").read_text()',
        'lambda: Path("/proc/1/environ").read_text()',
        'lambda: os.mknod(inside / "device", 0o20600, os.makedev(1, 1))',
    ],
)
def test_files_outside_are_out_of_reach(tmp_path: Path, wall: str, attempt: str) -> None:
    assert confined(tmp_path, f"{wall}print(denied({attempt}))") == "True"


@pytest.mark.parametrize(
    "attempt",
    [
        "lambda: socket.socket()",
        "lambda: socket.socket(socket.AF_UNIX)",
        "lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "lambda: os.fork()",
        'lambda: os.execv(sys.executable, ["x"])',
        'lambda: subprocess.run([sys.executable, "-c", "1"])',
        "lambda: os.kill(os.getppid(), 0)",
    ],
)
def test_a_child_has_no_network_programs_or_signals(tmp_path: Path, attempt: str) -> None:
    assert confined(tmp_path, f"{CHILD}print(denied({attempt}))") == "True"


def test_only_named_ports_can_be_connected_to(tmp_path: Path) -> None:
    body = """
        listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        named, other = (each.getsockname()[1] for each in listening)
        confine_server([], [inside], network=False, ports=[named])
        socket.create_connection(("127.0.0.1", named)).close()
        print(denied(lambda: socket.create_connection(("127.0.0.1", other))))
    """

    assert confined(tmp_path, body) == "True"


def test_a_server_starts_programs_but_opens_no_connection(tmp_path: Path) -> None:
    body = """
        print(subprocess.run([sys.executable, "-c", "print('started')"], capture_output=True, text=True).stdout.strip())
        print(denied(lambda: socket.socket().connect(("127.0.0.1", 9))), denied(lambda: socket.socket().bind(("", 0))))
    """

    assert confined(tmp_path, SERVER + textwrap.dedent(body)).split() == ["started", "True", "True"]


def test_a_server_signals_what_it_has_started_and_nobody_else(tmp_path: Path) -> None:
    body = """
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        child.kill()
        print(child.wait(), denied(lambda: os.kill(os.getppid(), 0)))
    """

    assert confined(tmp_path, SERVER + textwrap.dedent(body)) == "-9 True"


def test_what_a_server_starts_is_behind_the_same_wall(tmp_path: Path) -> None:
    body = """
        code = "import sys; open(sys.argv[1]).read()"
        print(subprocess.run([sys.executable, "-c", code, str(outside / "file")], capture_output=True).returncode)
    """

    assert confined(tmp_path, SERVER + textwrap.dedent(body)) == "1"


@pytest.mark.parametrize("wall", [CHILD, SERVER], ids=["child", "server"])
@pytest.mark.parametrize(
    "call",
    [
        "101, 0, 0, 0, 0",  # ptrace(PTRACE_TRACEME)
        "310, os.getpid(), None, 0, None, 0, 0",  # process_vm_readv
        "321, 0, None, 0",  # bpf
        "425, 1, None",  # io_uring_setup
        "272, 0x10000000",  # unshare(CLONE_NEWUSER)
        "165, None, None, None, 0, None",  # mount
        "250, 0, 0, 0, 0, 0",  # keyctl
        "298, None, 0, -1, -1, 0",  # perf_event_open
    ],
)
def test_calls_of_no_use_are_denied(tmp_path: Path, wall: str, call: str) -> None:
    assert confined(tmp_path, f"{wall}print(denied(system_call({call})))") == "True"


def test_the_other_system_call_table_is_no_way_around(tmp_path: Path) -> None:
    # The x32 form of getpid.
    assert confined(tmp_path, f"{CHILD}print(denied(system_call(0x40000000 | 39)))") == "True"


@pytest.mark.parametrize("wall", [CHILD, SERVER], ids=["child", "server"])
def test_threads_and_imports_still_work(tmp_path: Path, wall: str) -> None:
    body = """
        threads = [threading.Thread(target=lambda: results.append(1)) for _ in range(4)]
        results = []
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        import sqlite3, decimal, zoneinfo, encodings.idna
        print(len(results))
    """

    assert confined(tmp_path, wall + textwrap.dedent(body)) == "4"


def test_the_wall_cannot_be_taken_down_again(tmp_path: Path) -> None:
    body = """
        confine_child([outside], [outside])
        print(denied(lambda: (outside / "file").read_text()))
    """

    assert confined(tmp_path, CHILD + textwrap.dedent(body)) == "True"


def test_sql_processes_are_confined(tmp_path: Path) -> None:
    import asyncio

    from host_bindings.d1.database import Database, Statement
    from host_bindings.d1.service import SqlService

    async def run() -> str:
        service = SqlService(tmp_path, processes=1)
        try:
            await Database(tmp_path / "database", service).query([Statement("SELECT 1")])
            return Path(f"/proc/{service.process_ids[0]}/status").read_text()
        finally:
            await service.close()

    status = asyncio.run(run())

    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status


def test_a_database_outside_of_its_folder_cannot_be_opened(tmp_path: Path) -> None:
    import asyncio

    from host_bindings.d1.database import Database, Statement
    from host_bindings.d1.errors import D1Error
    from host_bindings.d1.service import SqlService

    async def run() -> None:
        service = SqlService(tmp_path / "inside", processes=1)
        try:
            with pytest.raises(D1Error):
                await Database(tmp_path / "outside" / "database", service).query([Statement("SELECT 1")])
        finally:
            await service.close()

    asyncio.run(run())

    assert not [path for path in tmp_path.rglob("*") if path.is_file()], os.listdir(tmp_path)
