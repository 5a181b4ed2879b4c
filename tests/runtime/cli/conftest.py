"""The command line, in this process, against a real management API in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.cli.main import main
from runtime.settings import ServerSettings
from tests.components import raw_component
from tests.runtime.control.service import TOKEN, Control, serve_control


@dataclass
class Outcome:
    exit_code: int
    stdout: str
    stderr: str


RunCli = Callable[..., Outcome]


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> RunCli:
    """Runs `cloister ARGUMENTS` as the console script does, in an empty directory and environment."""
    for name in ("PORT", "ADMIN_PORT", "DATA", "ADMIN_TOKEN", "NAMESPACE", "DISPATCHER", "CONFIG"):
        monkeypatch.delenv(f"CLOISTER_{name}", raising=False)
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["cloister", *map(str, arguments)])
        exit_code = 0
        try:
            main()
        except SystemExit as exit:
            exit_code = int(exit.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(exit_code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def component_file() -> Path:
    return raw_component("raw_worker")


@pytest.fixture
def server(tmp_path: Path, artifacts_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Control]:
    """A management API, to which the command line is pointed by the environment."""
    started, stop = threading.Event(), asyncio.Event()
    found: list[Control | BaseException] = []

    async def serve() -> None:
        async with serve_control(ServerSettings(data=tmp_path / "data"), artifacts_directory) as control:
            found.append(control)
            started.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            found.append(error)
            started.set()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    if isinstance(found[0], BaseException):
        raise found[0]
    loop = found[0].http._loop
    monkeypatch.setenv("CLOISTER_ADMIN_PORT", str(found[0].port))
    monkeypatch.setenv("CLOISTER_ADMIN_TOKEN", TOKEN)
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
