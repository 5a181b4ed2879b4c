"""A script that is deployed again and again under load: no request fails, and each deployment is seen at once.

A short form runs with all tests; `just torture` runs the full one, 10,000 requests across 50 deployments.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections import Counter

import aiohttp

from tests.clients.conftest import Platform
from tests.e2e.server import file as file_part
from tests.e2e.server import multipart

WHOLE = os.environ.get("CLOISTER_TORTURE") == "1"
REQUESTS, DEPLOYMENTS = (10_000, 50) if WHOLE else (2_000, 10)
CLIENTS = 8


class Script:
    """A script whose answer is the number of the deployment, deployed in the different ways that there are."""

    def __init__(self, platform: Platform) -> None:
        self.name = f"rolling-{secrets.token_hex(4)}"
        self.path = f"/accounts/local/workers/dispatch/namespaces/production/scripts/{self.name}"
        self.platform = platform
        self.versions: dict[str, str] = {}
        """By answer, the id of a version that gives it."""

    def upload(self, answer: str) -> str:
        binding = {"type": "plain_text", "name": "N", "text": answer}
        metadata = json.dumps({"main_module": "worker.wasm", "bindings": [binding]}).encode()
        component = self.platform.component.read_bytes()
        body, content_type = multipart(
            [
                file_part("metadata", "", metadata, "application/json"),
                file_part("worker.wasm", "worker.wasm", component, "application/wasm"),
            ]
        )
        result = self.platform.call("PUT", self.path, body, content_type)["result"]
        self.versions[answer] = result["version_id"]
        return answer

    def change_settings(self, answer: str) -> str:
        bindings = [{"type": "plain_text", "name": "N", "text": answer}]
        self.platform.call("PATCH", f"{self.path}/settings", json.dumps({"bindings": bindings}).encode())
        self.versions[answer] = self.platform.call("GET", self.path)["result"]["script"]["version_id"]
        return answer

    def roll_back(self, _: str) -> str:
        answer = list(self.versions)[-2]
        body = json.dumps({"version_id": self.versions[answer]}).encode()
        self.platform.call("POST", f"{self.path}/rollback", body)
        return answer


def test_no_request_fails_while_versions_follow_each_other(platform: Platform) -> None:
    script = Script(platform)
    script.upload("0")
    ways = [script.upload, script.change_settings, script.roll_back]
    answers: Counter[str] = Counter()
    deployed = asyncio.Semaphore(0)

    async def call(http: aiohttp.ClientSession) -> None:
        while sum(answers.values()) < REQUESTS or deployed.locked():
            async with http.get("/env/N", headers={"X-User-ID": script.name}) as response:
                text = await response.text()
                assert response.status == 200, text
                answers[text] += 1

    async def deploy(http: aiohttp.ClientSession) -> None:
        for number in range(1, DEPLOYMENTS + 1):
            wanted = await asyncio.to_thread(ways[number % 3], str(number))
            async with http.get("/env/N", headers={"X-User-ID": script.name}) as response:
                assert await response.text() == wanted
            while sum(answers.values()) < REQUESTS * number / (DEPLOYMENTS + 1):
                await asyncio.sleep(0.01)
        deployed.release()

    async def run() -> None:
        base = f"http://127.0.0.1:{platform.port}"
        async with aiohttp.ClientSession(base) as http, asyncio.TaskGroup() as tasks:
            tasks.create_task(deploy(http))
            for _ in range(CLIENTS):
                tasks.create_task(call(http))

    asyncio.run(run())

    assert sum(answers.values()) >= REQUESTS
    assert len(answers) > DEPLOYMENTS / 2
