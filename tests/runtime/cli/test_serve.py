"""`cloister serve` and `cloister build` as a user runs them: a process, a terminal's text, an exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.cli.conftest import RunCli

READY = re.compile(
    r"^Cloister is ready after .*: tenants on (http://127\.0\.0\.1:\d+), management on (http://\S+)$", re.M
)

WORKER = """
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response(f"Hello from {self.env.NAME}")
"""


def write_worker(directory: Path, name: str, source: str = WORKER) -> Path:
    directory.mkdir(exist_ok=True)
    configuration = {"name": name, "main": "entry.py", "vars": {"NAME": name}, "routes": []}
    (directory / "wrangler.json").write_text(json.dumps(configuration))
    (directory / "entry.py").write_text(source)
    return directory


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def environment(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLOISTER_")}
    return {**inherited, "PYTHONWARNINGS": "error", **variables}


def command(data: Path, *arguments: object) -> list[str]:
    ports = () if "--port" in arguments else ("--port", "0")
    options = map(str, (*ports, "--admin-port", 0, "--data", data, *arguments))
    return [sys.executable, "-m", "runtime.cli.main", "serve", *options]


class Server:
    """A server process; `output` is everything that it has said until it was ready."""

    def __init__(self, data: Path, *arguments: object) -> None:
        self.process = subprocess.Popen(
            command(data, *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
        )
        assert self.process.stdout is not None
        self.output = ""
        while not (found := READY.search(self.output)):
            line = self.process.stdout.readline()
            assert line, self.output
            self.output += line
        self.address, self.admin = found.groups()

    def get(self, user: str) -> str:
        request = urllib.request.Request(self.address, headers={"X-User-ID": user})
        with urllib.request.urlopen(request, timeout=60) as response:
            return str(response.read().decode())

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.output += self.process.communicate(timeout=60)[0]
        return self.process.returncode


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started: list[Server] = []
    yield started
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


def test_it_builds_deploys_serves_and_the_next_start_has_nothing_to_do(
    data: Path, tmp_path: Path, servers: list[Server]
) -> None:
    workers = [write_worker(tmp_path / name, name) for name in ("user1", "user2")]
    deploys = [option for worker in workers for option in ("--deploy", worker)]

    servers.append(first := Server(data, *deploys))
    assert first.get("user1") == "Hello from user1"
    assert first.get("user2") == "Hello from user2"
    assert first.stop() == 0
    assert f"Building {workers[0]}: done" in first.output
    assert re.search(r"Deploying user2: done in .* s \(version 1\)", first.output)
    assert "user1: wrangler.json: routes is not supported here and is ignored." in first.output
    assert len(re.findall(r"^  curl .*127\.0\.0\.1", first.output, re.M)) == 3
    assert first.output.index("curl") < first.output.index("is ready")

    token = (data / "admin-token").read_text().strip()
    assert stat.S_IMODE((data / "admin-token").stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert token not in first.output

    servers.append(second := Server(data, *deploys))
    assert second.output.count("(nothing has changed)") == 4
    assert second.get("user1") == "Hello from user1"
    assert second.stop() == 0


def test_a_worker_that_does_not_build_ends_the_start_with_its_own_traceback(data: Path, tmp_path: Path) -> None:
    worker = write_worker(tmp_path / "broken", "broken", "import not_there_at_all\n")
    outcome = subprocess.run(command(data, "--deploy", worker), capture_output=True, text=True, env=environment())
    assert outcome.returncode == 1
    assert f"error: The worker in {worker} could not be built." in outcome.stderr
    assert "not_there_at_all" in outcome.stderr
    assert "runtime/cli" not in outcome.stderr
    assert "is ready" not in outcome.stdout


def test_two_workers_of_one_name_are_a_mistake(data: Path, tmp_path: Path) -> None:
    workers = [write_worker(tmp_path / directory, "same") for directory in ("a", "b")]
    deploys = [option for worker in workers for option in ("--deploy", worker)]
    outcome = subprocess.run(command(data, *deploys), capture_output=True, text=True, env=environment())
    assert outcome.returncode == 2
    assert "Two of the workers to deploy have the name same." in outcome.stderr


def test_settings_in_a_file_hold_for_the_server_its_processes_and_other_commands(
    data: Path, tmp_path: Path, servers: list[Server]
) -> None:
    file = tmp_path / "cloister.toml"
    file.write_text('data = "data"\nprocesses = 2\nnamespace = "from-the-file"\nlog_format = "json"\n')

    servers.append(server := Server(data, "--config", file, "--deploy", write_worker(tmp_path / "user1", "user1")))

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "runtime.cli.main", *map(str, arguments), "--config", str(file)]
        return subprocess.run(line, capture_output=True, text=True, env=environment())

    assert server.get("user1") == "Hello from user1"
    listed = run("tenants", "--json", "--admin-port", server.admin.rpartition(":")[2])
    assert [each["dispatch_namespace"] for each in json.loads(listed.stdout)] == ["from-the-file"], listed.stderr
    found = {each["subject"]: each["found"] for each in json.loads(run("doctor", "--json").stdout)}
    assert (found["settings file"], found["data directory"]) == (str(file), str(data))
    assert run("backup", tmp_path / "copy").returncode == 0
    assert server.stop() == 0
    started = [json.loads(line) for line in server.output.splitlines() if '"message":"listening"' in line]
    assert [len(each["processes"]) for each in started] == [2]


def test_a_port_that_is_taken_is_named_with_what_to_do(data: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        outcome = subprocess.run(command(data, "--port", port), capture_output=True, text=True, env=environment())
    assert outcome.returncode == 2
    assert f"port: {port} on 127.0.0.1 is taken" in outcome.stderr
    assert "CLOISTER_PORT" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_strangers_are_not_served_by_accident(data: Path) -> None:
    outcome = subprocess.run(command(data, "--host", "0.0.0.0"), capture_output=True, text=True, env=environment())
    assert outcome.returncode == 2
    assert "--trust-header" in outcome.stderr


def test_a_worker_is_built_into_a_file(run_cli: RunCli, tmp_path: Path) -> None:
    worker = write_worker(tmp_path / "user1", "user1")

    named = run_cli("build", worker, "-o", tmp_path / "out.wasm")
    assert (named.exit_code, named.stdout) == (0, f"{tmp_path}/out.wasm\n")
    assert f"Building {worker}: done" in named.stderr

    default = run_cli("build", worker)
    assert default.stdout == "user1.wasm\n"
    assert Path("user1.wasm").read_bytes() == (tmp_path / "out.wasm").read_bytes()
    assert (tmp_path / "out.wasm").read_bytes()[:4] == b"\0asm"


def test_a_configuration_that_is_wrong_is_explained(run_cli: RunCli, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    outcome = run_cli("build", empty)
    assert outcome.exit_code == 2
    assert "there is no wrangler.jsonc" in outcome.stderr
