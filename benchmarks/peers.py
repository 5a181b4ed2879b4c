"""The servers that Cloister is measured against, each in a process of its own on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.installation import PEERS, installed, missing


class PeerMissing(Exception):
    """A yardstick cannot be run here; the text says what to install."""


@dataclass(frozen=True)
class Server:
    """A running server: its address and its first process."""

    url: str
    pid: int

    def memory_bytes(self) -> int:
        """Resident memory of the process and its descendants: each page's proportional share."""
        return sum(_memory_bytes(pid) for pid in _family(self.pid))

    def anonymous_bytes(self) -> int:
        """Memory of the process and its descendants that no file backs: what instances have written, and the heaps.

        Cheap to ask for often. Resident memory would not do: it counts a page of a file once for each mapping of it,
        and each instance maps the same image.
        """
        return sum(_anonymous_bytes(pid) for pid in _family(self.pid))

    def cpu_s(self) -> float:
        """CPU time that the process and its descendants have used so far, to a hundredth of a second."""
        return sum(_cpu_s(pid) for pid in _family(self.pid))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def bare_aiohttp(directory: Path) -> Iterator[Server]:
    """aiohttp's low-level server with uvloop: hello at /, a JSON echo at /echo, files of `directory` at /file/NAME."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.bare", str(port), str(directory)]
    with running(command, port) as server:
        yield server


@contextmanager
def workerd(workers: Sequence[str] = ("hello.js",), *, tenants: int = 0) -> Iterator[Server]:
    """`workerd serve` with one worker; with `tenants`, that many of it behind a dispatcher with service bindings."""
    binary = _installation() / "node_modules" / "workerd" / "bin" / "workerd"
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "config.capnp"
        config.write_text(_workerd_config(workers[0], tenants, port))
        for name in {workers[0], "dispatcher.js"}:
            shutil.copy(PEERS / name, directory)
        with running([str(binary), "serve", str(config)], port) as server:
            yield server


@contextmanager
def miniflare_platform() -> Iterator[Server]:
    """The reference platform in JavaScript on Miniflare, its storage in a temporary folder."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory, _miniflare("platform", directory) as it:
        yield it


@contextmanager
def miniflare_stores(directory: Path) -> Iterator[Server]:
    """stores.js on Miniflare, with its storage in `directory`."""
    with _miniflare("stores", str(directory)) as server:
        yield server


@contextmanager
def _miniflare(program: str, directory: str) -> Iterator[Server]:
    command = ["node", str(PEERS / f"{program}.mjs"), str(_installation()), directory]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("Miniflare did not start")
        yield Server(url, process.pid)
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _installation() -> Path:
    reason = missing()
    if reason is not None:
        raise PeerMissing(f"{reason}, so there is no comparison with workerd and Miniflare.")
    return installed()


def _workerd_config(worker: str, tenants: int, port: int) -> str:
    flags = 'compatibilityDate = "2026-04-01"'
    names = [f"user{i}" for i in range(tenants)]
    bindings = ", ".join(f'(name = "{name}", service = "{name}")' for name in names)
    services = [f'(name = "{name}", worker = .tenant)' for name in names]
    entry = "tenant"
    if tenants:
        entry = "dispatcher"
    listed = ", ".join([*services, f'(name = "entry", worker = .{entry})'])
    parts = [
        'using Workerd = import "/workerd/workerd.capnp";',
        f"const config :Workerd.Config = (services = [{listed}],",
        f'  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "entry")]);',
        f'const tenant :Workerd.Worker = (modules = [(name = "worker", esModule = embed "{worker}")], {flags});',
    ]
    if tenants:
        parts.append(
            "const dispatcher :Workerd.Worker = "
            f'(modules = [(name = "worker", esModule = embed "dispatcher.js")], bindings = [{bindings}], {flags});'
        )
    return "\n".join(parts) + "\n"


@contextmanager
def running(
    command: list[str], port: int, environment: Mapping[str, str] | None = None, *, admin_port: int | None = None
) -> Iterator[Server]:
    """Runs a server until the end of the block, which begins when all its ports are open: each process opens its own.

    Raises RuntimeError with what the server said if it does not listen.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **(environment or {})})
        try:
            try:
                for opened in (port, admin_port):
                    if opened is not None:
                        wait_for_port(process, opened)
            except RuntimeError as error:
                output.seek(0)
                raise RuntimeError(f"{error}:\n{output.read()[-4000:].decode(errors='replace')}") from None
            yield Server(f"http://127.0.0.1:{port}/", process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for_port(process: subprocess.Popen[bytes], port: int, seconds: float = 60.0) -> None:
    """Returns when the port is open. Raises RuntimeError if the process ends or time runs out."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise RuntimeError(f"{process.args!r} does not listen")


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue  # the thread has ended
        for child in children:
            found += _family(int(child))
    return found


def machine_cpu_s() -> float:
    """CPU time that all programs together have used since the machine started, stolen time included."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = _machine_fields()
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _machine_fields() -> list[int]:
    with open("/proc/stat") as file:
        return [int(field) for field in file.readline().split()[1:]]


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # utime, stime and, of children that have ended, cutime and cstime: see proc(5).
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _anonymous_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = status.partition("\nRssAnon:")[2].split()
    return int(found[0]) * 1024 if found else 0


def _memory_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
