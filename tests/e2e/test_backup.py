"""A backup that is taken while clients write, and a server that goes on from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.server import ROOT, SCRIPTS, Server, start

ACCOUNT = "/client/v4/accounts/local"
KV = f"{ACCOUNT}/storage/kv/namespaces"
R2 = f"{ACCOUNT}/r2/buckets/files"
D1 = f"{ACCOUNT}/d1/database/shop"
OBJECTS = 8
FILLER = b"x" * 20_000
"""Larger than what is kept with the metadata: each object has a file."""


def cloister(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runtime.cli.main", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLOISTER_")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def ask(server: Server, method: str, path: str, content: object = None) -> Any:
    body = content if isinstance(content, bytes) else json.dumps(content).encode() if content is not None else None
    reply = server.control(method, path, body=body)
    assert reply.status == 200, reply.text
    return reply


class Writers:
    """Clients that write numbers, one after the other, and note the last that was acknowledged."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.namespace = ask(server, "POST", KV, {"title": "cache"}).json()["result"]["id"]
        ask(server, "POST", f"{ACCOUNT}/r2/buckets", {"name": "files"})
        ask(server, "POST", f"{ACCOUNT}/d1/database", {"name": "shop"})
        ask(server, "POST", f"{D1}/query", {"sql": "CREATE TABLE t (n INTEGER)"})
        self.empty = ask(server, "GET", f"{D1}/time_travel/bookmark").json()["result"]["bookmark"]
        self.acknowledged = {"kv": 0, "r2": 0, "d1": 0}
        self.failed: list[BaseException] = []
        self._stop = threading.Event()
        kinds: dict[str, Callable[[int], object]] = {"kv": self.kv, "r2": self.r2, "d1": self.d1}
        self._threads = [threading.Thread(target=self._write, args=each) for each in kinds.items()]
        for thread in self._threads:
            thread.start()

    def kv(self, number: int) -> None:
        ask(self.server, "PUT", f"{KV}/{self.namespace}/values/newest", str(number).encode())

    def r2(self, number: int) -> None:
        """Objects come, are replaced, and go."""
        key = number % OBJECTS
        ask(self.server, "PUT", f"{R2}/objects/{key}", b"%d %b" % (number, FILLER))
        ask(self.server, "DELETE", f"{R2}/objects/{(key + 4) % OBJECTS}")

    def d1(self, number: int) -> None:
        ask(self.server, "POST", f"{D1}/query", {"sql": f"INSERT INTO t VALUES ({number})"})

    def wait(self, number: int) -> None:
        """Until so many more of each kind are there."""
        wanted = {kind: reached + number for kind, reached in self.acknowledged.items()}
        while any(self.acknowledged[kind] < wanted[kind] for kind in wanted) and not self.failed:
            self._stop.wait(0.01)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert not self.failed

    def _write(self, kind: str, write: Callable[[int], object]) -> None:
        number = 0
        try:
            while not self._stop.is_set():
                number += 1
                write(number)
                self.acknowledged[kind] = number
        except BaseException as error:
            self.failed.append(error)


def test_a_backup_under_load_has_all_that_was_acknowledged_and_serves(data: Path, tmp_path: Path) -> None:
    archive, restored = tmp_path / "backup.tar.zst", tmp_path / "restored"
    with start(data) as server:
        writers = Writers(server)
        try:
            writers.wait(20)
            before = dict(writers.acknowledged)
            made = cloister("backup", archive, "--data", data)
            after = {kind: number + 1 for kind, number in writers.acknowledged.items()}
        finally:
            writers.stop()
        component = ask(server, "GET", f"{SCRIPTS}/user1/content").body
    assert made.returncode == 0, made.stderr
    assert archive.stat().st_mode & 0o077 == 0

    result = cloister("restore", archive, "--data", restored)

    assert result.returncode == 0, result.stderr
    assert (restored / "secrets.key").read_bytes() == (data / "secrets.key").read_bytes()
    with start(restored) as server:
        assert ask(server, "GET", f"{SCRIPTS}/user1/content").body == component
        newest = int(ask(server, "GET", f"{KV}/{writers.namespace}/values/newest").text)
        rows = ask(server, "POST", f"{D1}/query", {"sql": "SELECT n FROM t ORDER BY n"}).json()
        numbers = [row["n"] for row in rows["result"][0]["results"]]
        assert before["kv"] <= newest <= after["kv"]
        assert numbers == list(range(1, len(numbers) + 1))
        assert before["d1"] <= len(numbers) <= after["d1"]
        assert before["r2"] <= newest_object(server) <= after["r2"]
        ask(server, "POST", f"{D1}/query", {"sql": "INSERT INTO t VALUES (0)"})
        ask(server, "POST", f"{D1}/time_travel/restore?bookmark={writers.empty}")
        rows = ask(server, "POST", f"{D1}/query", {"sql": "SELECT count(*) AS n FROM t"}).json()
        assert rows["result"][0]["results"] == [{"n": 0}]


def newest_object(server: Server) -> int:
    """The highest number in the bucket; each object that the metadata name is there as it was written."""
    found = []
    for each in ask(server, "GET", f"{R2}/objects").json()["result"]:
        number, _, filler = ask(server, "GET", f"{R2}/objects/{each['key']}").body.partition(b" ")
        assert filler == FILLER and int(number) % OBJECTS == int(each["key"])
        found.append(int(number))
    return max(found)
