"""kill -9 at random moments, under a mixed load of KV, R2 and D1 writes, deploys and deletes."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.e2e.server import SCRIPTS, Server, start, wait_until
from tests.linearizability import History, is_linearizable
from tests.torture.buckets import assert_no_orphans
from tests.torture.conftest import BINDINGS

CLIENTS = 6
DEPLOYED = 3
"""How many workers are deployed and deleted all the time."""


class Unanswered(Exception):
    """No answer came, so nobody knows what has become of the request."""


class Load:
    """Clients that write, read and record, whatever happens to the server meanwhile."""

    def __init__(self, component: bytes) -> None:
        self.server: Server | None = None
        self.history = History()
        self.refused: list[str] = []
        self._component = component
        self._numbers = itertools.count(1)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(seed,)) for seed in range(CLIENTS)]
        self._threads.append(threading.Thread(target=self._deploy))

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def acknowledged(self) -> int:
        operations = [operation for each in list(self.history.operations.values()) for operation in list(each)]
        return sum(operation.kind == "write" and operation.ended != float("inf") for operation in operations)

    # What clients do

    def _write(self, seed: int) -> None:
        chance = random.Random(seed)
        recent = [""]
        while not self._ended.is_set():
            number = next(self._numbers)
            store = chance.choice(["kv", "r2", "d1"])
            # A new register now and then, and one that other clients use as well; so histories stay short.
            key = f"{store}/{seed}/{number // 40}" if chance.randrange(4) else f"{store}/shared/{number // 60}"
            recent = [*recent[-20:], key]
            with suppress(Unanswered):
                match chance.randrange(5):
                    case 0:
                        self.history.write(key, None, lambda: self.delete(key))  # noqa: B023
                    case 1:
                        self.read(chance.choice(recent[1:]))
                    case _:
                        self.history.write(key, f"{number}", lambda: self.put(key, f"{number}"))  # noqa: B023

    def _deploy(self) -> None:
        chance = random.Random(0)
        while not self._ended.is_set():
            number = next(self._numbers)
            key = f"script/deployed-{chance.randrange(DEPLOYED)}"
            with suppress(Unanswered):
                if chance.randrange(3):
                    self.history.write(key, f"{number}", lambda: self.deploy(key, f"{number}"))  # noqa: B023
                else:
                    self.history.write(key, None, lambda: self.undeploy(key))  # noqa: B023
            time.sleep(0.05)

    def read(self, key: str) -> None:
        self.history.read(key, lambda: self.get(key))

    def get(self, key: str) -> str | None:
        store, _, name = key.partition("/")
        match store:
            case "kv":
                found = self.call("kv.get", "KV", name)
            case "r2":
                found = self.call("r2.get", "R2", name)
            case "d1":
                # Both rows of a batch, or neither.
                rows = self.call("d1.query", "D1", "SELECT value FROM pair WHERE key = ? ORDER BY half", [name])[0][
                    "rows"
                ]
                assert len(rows) in (0, 2) and len({value for (value,) in rows}) <= 1, (key, rows)
                found = rows[0][0] if rows else None
            case _:
                return self.deployed(name)
        if found is None:
            return None
        value, _, rest = found.partition(" ")
        assert rest == _padding(int(value)), f"{key} is torn: {len(found)} characters"
        return str(value)

    def put(self, key: str, value: str) -> None:
        store, _, name = key.partition("/")
        text = f"{value} {_padding(int(value))}"
        if store == "d1":
            insert = "INSERT OR REPLACE INTO pair VALUES (?, ?, ?)"
            self.call("d1.batch", "D1", [[insert, [name, 1, text]], [insert, [name, 2, text]]])
        else:
            self.call(f"{store}.put", store.upper(), name, text)

    def delete(self, key: str) -> None:
        store, _, name = key.partition("/")
        match store:
            case "kv":
                self.call("kv.delete", "KV", name)
            case "r2":
                self.call("r2.delete", "R2", [name])
            case "d1":
                self.call("d1.query", "D1", "DELETE FROM pair WHERE key = ?", [name])

    def deploy(self, key: str, value: str) -> None:
        variable = {"type": "plain_text", "name": "VERSION", "text": value}
        with _answer():
            reply = self._server().deploy(key.partition("/")[2], self._component, [*BINDINGS, variable])
        self._expect(reply.status in (200, 429), reply.text)
        if reply.status != 200:
            raise Unanswered

    def undeploy(self, key: str) -> None:
        with _answer():
            reply = self._server().delete(key.partition("/")[2])
        self._expect(reply.status in (200, 404), reply.text)

    def deployed(self, script: str) -> str | None:
        """The version that is deployed, by what the worker itself says. Only while nobody deploys."""
        with _answer():
            shown = self._server().control("GET", f"{SCRIPTS}/{script}")
        if shown.status == 404:
            return None
        (version,) = [
            each["text"] for each in shown.json()["result"]["script"]["bindings"] if each["name"] == "VERSION"
        ]
        wait_until(lambda: self._variable(script) == version, "the deployment does not answer", 10)
        return str(version)

    def _variable(self, script: str) -> str | None:
        reply = self._server().request("POST", "/", user=script, body='[["bindings"]]')
        return reply.json()[0]["ok"]["VERSION"]["text"] if reply.status == 200 else None

    def call(self, *step: object) -> Any:
        with _answer():
            reply = self._server().request("POST", "/", user="worker", body=json.dumps([step]))
        self._expect(reply.status == 200, reply.text)
        (result,) = reply.json()
        # D1 says so of a commit of which it does not know what has become.
        if "error" in result and "Network connection lost" in result["error"]:
            raise Unanswered
        self._expect("ok" in result, str(result))
        return result["ok"]

    def _server(self) -> Server:
        while (server := self.server) is None:
            time.sleep(0.01)
        return server

    def _expect(self, holds: bool, said: str) -> None:
        """A server that is killed gives no answer; it gives no wrong one either."""
        if not holds:
            self.refused.append(said[:500])
            raise Unanswered


class _answer:
    """Without an answer the request's outcome is not known."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError | http.client.HTTPException):
            raise Unanswered from error


def _padding(number: int) -> str:
    """Text of different lengths, so that every way of storing a value is met."""
    return "x" * (number % 5 * number * 7 % 60_000)


def test_what_was_acknowledged_is_there_after_each_kill(
    data: Path, intruder: bytes, full: bool, say: Callable[[str], None]
) -> None:
    kills = 220 if full else 6
    chance = random.Random(1)
    load = Load(intruder)
    killed = restarts = 0
    began = time.monotonic()
    first = True
    while killed < kills:
        with start(data, supervised=True, processes=2) as server:
            load.server = server
            if first:
                load.call(
                    "d1.exec", "D1", "CREATE TABLE pair (key TEXT, half INTEGER, value TEXT, PRIMARY KEY (key, half))"
                )
                load.begin()
                first = False
            restarts += 1
            for _ in range(chance.randrange(2, 8) if full else 2):
                time.sleep(chance.random())
                with suppress(ProcessLookupError, IndexError):
                    os.kill(chance.choice(server.processes), signal.SIGKILL)
                    killed += 1
                wait_until(lambda: server.processes, "no server process is left")
                if full and killed % 20 == 0:
                    say(f"{killed} kills, {load.acknowledged()} writes acknowledged")
            time.sleep(chance.random())
            # The whole server, supervisor and all.
            killed += len(server.processes)
            server.stop(signal.SIGKILL)
            load.server = None

    with start(data, supervised=True, processes=2) as server:
        load.server = server
        time.sleep(0.5)
        load.end()
        lost = check_everything(load)
        assert server.stop() == 0
    acknowledged = load.acknowledged()
    say(
        f"{killed} server processes killed, {restarts} restarts of all, {acknowledged} writes acknowledged, "
        f"{len(lost)} lost, in {time.monotonic() - began:.0f} s"
    )
    assert not lost, lost[:3]
    assert load.refused == []
    assert acknowledged > 20 * kills / 6
    with start(data) as server:
        load.server = server
        load.call("r2.list", "R2")
        assert_no_orphans(data)
        assert server.stop() == 0
    assert list((data / "uploads").iterdir()) == []
    assert list((data / "artifacts" / "work").iterdir()) == []


def check_everything(load: Load) -> list[object]:
    """Reads every register once more; those whose history no register could have."""
    for key in sorted(load.history.operations):
        load.read(key)
    return [
        (key, sorted(operations, key=lambda operation: operation.began))
        for key, operations in load.history.operations.items()
        if not is_linearizable(operations)
    ]
