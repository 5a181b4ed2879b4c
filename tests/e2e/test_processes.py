"""Several server processes as one server: shared work, crashes that others do not notice, an orderly end."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.components import raw_component
from tests.e2e.server import SCRIPTS, Reply, Server, children, launch, start, wait_until

CRASHED = "a server process has crashed and is started again"


class Line:
    """A connection that is kept, and so stays with one server process."""

    def __init__(self, server: Server, user: str = "raw") -> None:
        self._server = server
        self._user = user
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self.connection.connect()

    def get(self, path: str, user: str | None = None) -> Reply:
        self.connection.request("GET", path, headers={"X-User-ID": user or self._user})
        answer = self.connection.getresponse()
        return Reply(answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read())

    @property
    def process(self) -> int:
        return self._server.serving(self.connection.sock)

    def send(self, path: str) -> None:
        """A request whose answer nobody waits for."""
        self.connection.request("GET", path, headers={"X-User-ID": self._user})

    def close(self) -> None:
        self.connection.close()


def line_to(server: Server, process: int, user: str = "raw") -> Line:
    """A connection to a certain process."""
    for _ in range(1000):
        line = Line(server, user)
        assert line.get("/hello", "raw").status == 200
        if line.process == process:
            return line
        line.close()
    raise AssertionError("no connection came to the process")


def deploy_raw(server: Server, name: str = "raw", **limits: object) -> None:
    reply = server.deploy(name, raw_component("raw_worker").read_bytes(), limits={"cpu_ms": 300_000, **limits})
    assert reply.status == 200, reply.text


@pytest.fixture(scope="module")
def raw_data(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which the raw worker is deployed."""
    data = shutil.copytree(deployed, tmp_path_factory.mktemp("processes") / "data")
    with start(data) as server:
        deploy_raw(server)
        assert server.stop() == 0
    return data


@pytest.fixture(scope="module")
def pair(raw_data: Path) -> Iterator[Server]:
    """Two server processes. Tests may crash them."""
    with start(raw_data, supervised=True, processes=2) as server:
        yield server


def both_processes(server: Server) -> list[int]:
    """When both are there and take traffic."""
    wait_until(lambda: len(server.processes) == 2, "a process was not started again")
    for process in server.processes:
        line_to(server, process).close()
    return server.processes


def crash(server: Server, line: Line, number: signal.Signals = signal.SIGSEGV) -> None:
    """Lets a guest run and ends the process that runs it."""
    assert line.get("/hello", "raw").status == 200
    victim = line.process
    line.send("/loop")
    time.sleep(0.2)
    kill(server, victim, number)
    line.close()


def kill(server: Server, victim: int, number: signal.Signals) -> None:
    """Ends a process by a signal. wasmtime's handler lets the first SIGSEGV pass that no instruction has caused."""

    def ended() -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, number)
        return victim not in server.processes

    wait_until(ended, "the process survived")


def test_connections_are_spread_over_the_processes(pair: Server) -> None:
    both_processes(pair)
    lines = [Line(pair) for _ in range(64)]

    counts = Counter(line.process for line in lines if line.get("/hello").status == 200)

    # By the binomial distribution fewer than 8 of 64 happen once in 10^10 times.
    assert sorted(counts) == sorted(pair.processes)
    assert min(counts.values()) >= 8
    for line in lines:
        line.close()


def test_the_ready_line_appears_once_when_all_answer(pair: Server) -> None:
    (listening,) = pair.logged("listening")

    assert (listening["port"], listening["admin_port"]) == (pair.port, pair.admin_port)
    assert len(listening["processes"]) == 2


def test_a_deploy_and_a_delete_are_seen_by_all_processes(pair: Server) -> None:
    lines = [line_to(pair, process) for process in both_processes(pair)]

    deploy_raw(pair, "shared")
    for line in lines:
        wait_until(lambda line=line: line.get("/hello", "shared").status == 200, "the deployment was not seen", 10)

    assert pair.delete("shared").status == 200
    for line in lines:
        wait_until(lambda line=line: line.get("/hello", "shared").status == 404, "the deletion was not seen", 10)
        line.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_crashes_is_started_again_and_the_others_notice_nothing(
    pair: Server, number: signal.Signals
) -> None:
    victim, other = both_processes(pair)
    kept = line_to(pair, other)
    reported = len(pair.logged(CRASHED))

    kill(pair, victim, number)

    # What the other process has goes on, and new connections are taken at once: none is refused or lost.
    while len(pair.processes) < 2:
        assert kept.get("/hello").status == 200
        fresh = Line(pair)
        assert fresh.get("/hello").status == 200
        fresh.close()
    assert kept.get("/hello").status == 200
    assert kept.process == other
    assert other in both_processes(pair)
    assert victim not in pair.processes
    entry = pair.logged(CRASHED)[reported]
    assert (entry["level"], entry["pid"], entry["cause"]) == ("error", victim, f"signal {number.name}")
    kept.close()


def test_management_goes_on_whichever_process_dies(pair: Server) -> None:
    for process in both_processes(pair):
        os.kill(process, signal.SIGKILL)
        assert pair.control("GET", "/client/v4/accounts/local/workers/dispatch/namespaces").status == 200
    both_processes(pair)


def test_a_process_whose_event_loop_is_stuck_is_killed_and_started_again(raw_data: Path) -> None:
    with start(raw_data, supervised=True, processes=2, watchdog_s=1) as server:
        stuck, other = both_processes(server)

        os.kill(stuck, signal.SIGSTOP)

        wait_until(lambda: stuck not in server.processes, "the stuck process was left")
        assert other in both_processes(server)
        (entry,) = server.logged(CRASHED)
        assert "its event loop had not turned" in entry["cause"]


def test_sigterm_lets_running_requests_of_all_processes_finish(raw_data: Path) -> None:
    with start(raw_data, supervised=True, processes=2) as server:
        lines = [line_to(server, process) for process in both_processes(server)]
        answers: list[Reply] = []

        def call(line: Line) -> None:
            for _ in range(10_000):
                reply = line.get("/sleep")
                answers.append(reply)
                if reply.headers.get("connection") == "close":
                    return

        callers = [threading.Thread(target=call, args=(line,)) for line in lines]
        for caller in callers:
            caller.start()
        wait_until(lambda: len(answers) > 4, "nothing was answered")

        assert server.stop(signal.SIGTERM) == 0

        for caller in callers:
            caller.join()
    assert {answer.status for answer in answers} == {200}
    assert sum(answer.headers.get("connection") == "close" for answer in answers) == 2


def test_requests_a_second_hold_for_all_processes_together(pair: Server) -> None:
    rate = 20
    deploy_raw(pair, "hurried", requests_per_s=rate)
    lines = [line_to(pair, process, "hurried") for process in both_processes(pair)]
    for line in lines:
        wait_until(lambda line=line: line.get("/hello").status != 404, "the deployment was not seen", 10)
    time.sleep(1.5)  # until a whole second's worth may come

    started = time.monotonic()
    statuses = [line.get("/hello").status for _ in range(100) for line in lines]
    seconds = time.monotonic() - started

    assert statuses.count(200) + statuses.count(429) == 200
    # Clocks of different processes are a twentieth of a second apart.
    assert statuses.count(200) <= rate * (1 + seconds) + 2
    for line in lines:
        line.close()


def test_a_second_signal_ends_all_at_once(raw_data: Path) -> None:
    with start(raw_data, supervised=True, processes=2, shutdown_grace_s=600) as server:
        processes = both_processes(server)
        lines = [line_to(server, process) for process in processes]
        for line in lines:
            line.send("/loop")
        time.sleep(0.2)

        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(server.port), "the port was still open")

        assert server.stop(signal.SIGTERM) == 128 + signal.SIGTERM
        wait_until(lambda: not any(map(is_alive, processes)), "a server process was left over")
        for line in lines:
            line.close()


def test_without_a_supervisor_no_server_process_stays(raw_data: Path) -> None:
    with start(raw_data, supervised=True, processes=2) as server:
        processes = both_processes(server)

        assert server.stop(signal.SIGKILL) == -signal.SIGKILL

        wait_until(lambda: not any(map(is_alive, processes)), "a server process was left over")
        wait_until(lambda: refuses(server.port), "the port was still open")


def test_a_process_that_does_not_start_ends_the_server_and_those_that_did(tmp_path: Path) -> None:
    with launch(tmp_path / "data", supervised=True, processes=2) as (supervisor, log):
        wait_until(lambda: len(children(supervisor.pid)) == 2, "there were no two processes")
        slow, ready = children(supervisor.pid)
        os.kill(slow, signal.SIGSTOP)
        wait_until(lambda: '"message":"confined"' in log.read_text(), "no process was ready")

        os.kill(slow, signal.SIGKILL)

        assert supervisor.wait(60) == 1
        assert "A server process did not start: signal SIGKILL" in log.read_text()
        assert "started again" not in log.read_text()
        wait_until(lambda: not is_alive(ready), "a server process was left over")


def test_a_port_that_another_group_of_processes_has_is_not_shared_with_it(pair: Server, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="is taken by another program"),
        start(tmp_path / "data", supervised=True, processes=2, port=pair.port),
    ):
        pass


def test_a_worker_that_crashes_processes_again_and_again_is_stopped_and_no_other(raw_data: Path) -> None:
    with start(raw_data, supervised=True, processes=2) as server:
        deploy_raw(server, "culprit")
        version = script(server, "culprit")["version_id"]
        for _ in range(3):
            line = line_to(server, both_processes(server)[0], "culprit")
            crash(server, line)

        for process in both_processes(server):
            line = line_to(server, process)
            wait_until(lambda line=line: line.get("/hello", "culprit").status == 503, "it was not stopped", 10)
            assert line.get("/hello", "culprit").json() == {
                "error": "This worker has been stopped, since it crashed the server again and again.",
                "code": "stopped",
            }
            assert line.get("/hello", "raw").status == 200
            line.close()
        assert [entry["running"] for entry in server.logged(CRASHED)] == [f"production/culprit/{version}"] * 3
        (stop,) = script(server, "culprit")["stopped"]
        assert stop["version_id"] == version
        assert "3 times within 10 minutes" in stop["reason"]
        assert script(server, "raw")["stopped"] == []
        (entry,) = server.logged("stopped a worker that crashes the server")
        assert (entry["level"], entry["tenant"]) == ("error", "culprit")
        assert server.stop() == 0

    # The record outlives the server; the operator may give the worker another chance.
    with start(raw_data, supervised=True, processes=1) as server:
        assert server.request("GET", "/hello", user="culprit").json()["code"] == "stopped"
        assert server.control("POST", f"{SCRIPTS}/culprit/start").json()["result"]["stopped"] == []
        assert server.request("GET", "/hello", user="culprit").status == 200
        assert server.stop() == 0
    with start(raw_data, supervised=True, processes=1) as server:
        assert server.request("GET", "/hello", user="culprit").status == 200


def test_an_abort_in_native_code_is_laid_to_the_worker_that_ran(raw_data: Path) -> None:
    """A real one: the text is wasmtime's to allocate, there is no room for it, and Rust aborts when that fails."""
    with start(raw_data, supervised=True, processes=1, crashes_max=1) as server:
        deploy_raw(server, "hungry", memory_bytes=512 << 20)
        line = Line(server, "hungry")
        assert line.get("/hello").status == 200
        (process,) = server.processes
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[0])
        room = pages * resource.getpagesize() + (64 << 20)
        resource.prlimit(process, resource.RLIMIT_AS, (room, room))

        with pytest.raises((http.client.HTTPException, ConnectionError)):
            line.get("/huge_text")

        wait_until(lambda: server.processes and server.processes != [process], "it was not started again")
        wait_until(lambda: server.logged(CRASHED), "the crash was not logged")
        (entry,) = server.logged(CRASHED)
        assert entry["cause"] == "signal SIGABRT"
        assert entry["running"].startswith("production/hungry/")
        assert "memory allocation of 100000000 bytes failed" in server.log.read_text(errors="replace")
        assert server.request("GET", "/hello", user="hungry").json()["code"] == "stopped"
        assert server.request("GET", "/hello", user="raw").status == 200
        line.close()


def test_another_version_of_a_stopped_worker_runs(raw_data: Path) -> None:
    with start(raw_data, supervised=True, processes=1, crashes_max=1) as server:
        deploy_raw(server, "culprit")
        crash(server, Line(server, "culprit"))
        wait_until(lambda: server.processes, "the process was not started again")
        assert server.request("GET", "/hello", user="culprit").json()["code"] == "stopped"

        deploy_raw(server, "culprit")

        assert server.request("GET", "/hello", user="culprit").status == 200
        assert script(server, "culprit")["stopped"] == []


def test_a_process_that_is_killed_from_outside_stops_no_worker(raw_data: Path) -> None:
    with start(raw_data, supervised=True, processes=1) as server:
        deploy_raw(server, "innocent")
        for _ in range(3):
            wait_until(lambda: len(server.processes) == 1, "the process was not started again")
            crash(server, Line(server, "innocent"), signal.SIGKILL)

        wait_until(lambda: len(server.processes) == 1, "the process was not started again")
        assert server.request("GET", "/hello", user="innocent").status == 200


def script(server: Server, name: str) -> dict[str, Any]:
    found: dict[str, Any] = server.control("GET", f"{SCRIPTS}/{name}").json()["result"]["script"]
    return found


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False
