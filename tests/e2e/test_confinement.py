"""A server behind the second wall: it does all its work, and even code inside of it reaches nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest_sdk.build import Configuration
from host_bindings.confinement import available
from tests.e2e.server import ROOT, Server, start

pytestmark = pytest.mark.skipif(
    not available().is_whole,
    reason=f"this kernel cannot confine processes ({available()}): Landlock and seccomp on x86-64 are needed",
)

DISPATCH_CODE = """
import ctypes, os, subprocess, sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from workers import Response

def attempt(kind, path):
    if kind == "read":
        return Path(path).read_text()
    if kind == "write":
        return Path(path).write_text("written")
    if kind == "trace":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(0, 0, 0, 0) < 0:
            raise PermissionError(ctypes.get_errno(), "ptrace")
    if kind == "child":
        code = "import sys; open(sys.argv[1]).read()"
        return subprocess.run([sys.executable, "-c", code, path], stderr=subprocess.DEVNULL).returncode

async def fetch(request, env):
    asked = {name: values[0] for name, values in parse_qs(urlsplit(request.url).query).items()}
    if "user" in asked:
        return await env.DISPATCHER.get(asked["user"]).fetch(request)
    try:
        return Response.json({"got": attempt(asked["kind"], asked.get("path"))})
    except PermissionError as error:
        return Response.json({"denied": error.errno})
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with a file each: of the dispatch code, of the operator's for it, of somebody else."""
    root = tmp_path_factory.mktemp("places")
    for name in ("code", "allowed", "other"):
        (root / name).mkdir()
        (root / name / "file").write_text(name)
    (root / "code" / "dispatcher.py").write_text(DISPATCH_CODE)
    return root


@pytest.fixture(scope="module")
def server(
    places: Path, tmp_path_factory: pytest.TempPathFactory, demo: Configuration, demo_component: bytes
) -> Iterator[Server]:
    with start(
        tmp_path_factory.mktemp("confined") / "data",
        supervised=True,
        dispatcher=places / "code",
        confinement="require",
        confinement_paths=places / "allowed",
    ) as server:
        reply = server.deploy("acme", demo_component, demo.bindings)
        assert reply.status == 200, reply.text
        yield server


def attempt(server: Server, kind: str, path: Path | str = "") -> object:
    reply = server.request("GET", f"/?kind={kind}&path={path}", user=None)
    assert reply.status == 200, reply.text
    return reply.json()


def test_the_platform_works_behind_the_wall(server: Server) -> None:
    """Upload, compilation, storage of a worker: the fixture has deployed, and the worker answers."""
    reply = server.request("GET", "/?user=acme", user=None)

    assert (reply.status, reply.text) == (200, "The customer worker is running")


def test_dispatch_code_reads_its_folder_and_uses_what_it_was_given(server: Server, places: Path) -> None:
    assert attempt(server, "read", places / "code" / "file") == {"got": "code"}
    assert attempt(server, "write", places / "allowed" / "new") == {"got": 7}
    assert (places / "allowed" / "new").read_text() == "written"


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("read", "other/file"),
        ("write", "other/file"),
        ("write", "code/file"),
        ("read", "/etc/passwd"),
        ("read", "/proc/1/environ"),
        ("trace", ""),
    ],
)
def test_everything_else_is_out_of_reach(server: Server, places: Path, kind: str, path: str) -> None:
    assert "denied" in json.dumps(attempt(server, kind, places / path if path else ""))


def test_what_it_starts_is_behind_the_same_wall(server: Server, places: Path) -> None:
    assert attempt(server, "child", places / "other" / "file") == {"got": 1}


def test_the_log_says_what_holds(server: Server) -> None:
    entries = [json.loads(line) for line in server.log.read_text().splitlines()]

    (confined,) = [entry for entry in entries if entry.get("message") == "confined"]
    assert confined["landlock"] == available().landlock
    assert confined["system_calls"] is True


def test_the_wall_can_be_left_out(places: Path, tmp_path: Path) -> None:
    with start(tmp_path / "data", supervised=True, dispatcher=places / "code", confinement="off") as server:
        assert attempt(server, "read", places / "other" / "file") == {"got": "other"}


def test_a_wrong_word_is_refused(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "runtime.cli.main", "serve", "--port", "0", "--admin-port", "0"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "CLOISTER_DATA": str(tmp_path / "data"), "CLOISTER_CONFINEMENT": "some"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert finished.returncode == 2
    assert "confinement: one of auto, require, off" in " ".join(finished.stderr.split())
