"""A script that is deployed again and again under load: no request fails, and each deployment is seen at once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiohttp

from tests.e2e.server import SCRIPTS, Server, start
from tests.torture.conftest import BINDINGS

CLIENTS = 8
SHORT, FULL = (2_000, 10), (10_000, 50)
"""Requests and deployments."""


class Script:
    """A script that shows the number of its version, deployed in the three ways that there are."""

    def __init__(self, server: Server, component: bytes) -> None:
        self._server = server
        self._component = component
        self._versions: dict[str, str] = {}

    def upload(self, number: str) -> str:
        reply = self._server.deploy("worker", self._component, [*BINDINGS, _numbered(number)])
        assert reply.status == 200, reply.text
        self._versions[number] = reply.json()["result"]["version_id"]
        return number

    def change_settings(self, number: str) -> str:
        kept = [{"type": binding["type"], "name": binding["name"]} for binding in BINDINGS]
        self._call("PATCH", "settings", {"bindings": [*kept, _numbered(number)]})
        reply = self._server.control("GET", f"{SCRIPTS}/worker")
        self._versions[number] = reply.json()["result"]["script"]["version_id"]
        return number

    def roll_back(self, _: str) -> str:
        number = list(self._versions)[-2]
        self._call("POST", "rollback", {"version_id": self._versions[number]})
        return number

    def _call(self, method: str, path: str, body: object) -> None:
        headers = {"Content-Type": "application/json"}
        reply = self._server.control(
            method, f"{SCRIPTS}/worker/{path}", headers=headers, body=json.dumps(body).encode()
        )
        assert reply.status == 200, reply.text


def _numbered(number: str) -> dict[str, str]:
    return {"type": "plain_text", "name": "N", "text": number}


def test_no_request_fails_while_versions_follow_each_other(
    data: Path, intruder: bytes, full: bool, say: Callable[[str], None]
) -> None:
    requests, deployments = FULL if full else SHORT
    answers: Counter[str] = Counter()

    async def ask(http: aiohttp.ClientSession) -> str:
        async with http.post("/", data='[["bindings"]]', headers={"X-User-ID": "worker"}) as response:
            text = await response.text()
            assert response.status == 200, text
            (shown,) = json.loads(text)
            return str(shown["ok"]["N"]["text"])

    async def run(server: Server) -> None:
        script = Script(server, intruder)
        ways = [script.upload, script.change_settings, script.roll_back]
        script.upload("0")
        ended = False

        async def load(http: aiohttp.ClientSession) -> None:
            while not ended or answers.total() < requests:
                answers[await ask(http)] += 1

        async def deploy(http: aiohttp.ClientSession) -> None:
            nonlocal ended
            for number in range(1, deployments + 1):
                wanted = await asyncio.to_thread(ways[number % 3], str(number))
                assert await ask(http) == wanted
                while answers.total() < requests * number / (deployments + 1):
                    await asyncio.sleep(0.01)
            ended = True

        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as http, asyncio.TaskGroup() as tasks:
            tasks.create_task(deploy(http))
            for _ in range(CLIENTS):
                tasks.create_task(load(http))

    with start(data) as server:
        asyncio.run(run(server))

    assert len(answers) > deployments / 2
    say(f"{answers.total()} requests across {deployments} deployments, none failed")
