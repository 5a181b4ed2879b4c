"""What an operator sees of a running platform: access lines, usage, metrics, live tails; over two processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from guest_sdk.build import build
from host_bindings import WIT_DIRECTORY
from tests.components import GUESTS
from tests.e2e.server import ROOT, SCRIPTS, TOKEN, Server, start, wait_until

BODY = b"twelve bytes"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start(tmp_path_factory.mktemp("observation") / "data", supervised=True, processes=2) as server:
        for name in ("acme", "quiet"):
            deployed_everywhere(server, name, limits={"cpu_ms": 200})
        yield server


def access_line(server: Server, request_id: str) -> dict[str, Any]:
    """The line of a request, which is written a moment after its answer."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        entries = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        for entry in entries:
            if entry.get("logger") == "access" and entry["request"] == request_id:
                return dict(entry)
        time.sleep(0.05)
    raise AssertionError(f"no access line for {request_id}")


def control(server: Server, path: str) -> Any:
    reply = server.control("GET", path)
    assert reply.status == 200, reply.text
    return reply.json()["result"]


def settled_usage(server: Server, name: str) -> dict[str, Any]:
    """A tenant's day when every process has written what it counted: each does once a second."""
    time.sleep(2.5)
    (day,) = control(server, f"/client/v4/accounts/local/usage?namespace=production&script={name}")
    return dict(day)


def test_each_request_leaves_a_line_with_what_it_was_and_took(server: Server) -> None:
    reply = server.request("PUT", "/echo", user="acme", body=BODY)

    line = access_line(server, reply.headers["x-request-id"])
    assert (line["tenant"], line["version"], line["method"], line["status"]) == ("acme", 1, "PUT", 200)
    assert (line["outcome"], line["bytes_in"]) == ("ok", len(BODY))
    assert line["bytes_out"] > len(BODY)
    assert line["cpu_ms"] > 0 and line["wall_ms"] > 0
    assert line["cold"] in (True, False)


@pytest.mark.parametrize(
    ("user", "path", "status", "outcome"),
    [
        ("acme", "/fail", 500, "exception"),
        ("acme", "/loop", 503, "exceededCpu"),
        ("nobody", "/", 404, "scriptNotFound"),
    ],
)
def test_a_line_says_what_went_wrong(server: Server, user: str, path: str, status: int, outcome: str) -> None:
    reply = server.request("GET", path, user=user)

    line = access_line(server, reply.headers["x-request-id"])
    assert (reply.status, line["status"], line["outcome"]) == (status, status, outcome)


def test_a_fresh_instance_shows_as_cold_and_the_next_as_warm(server: Server) -> None:
    deployed_everywhere(server, "fresh", limits={"isolation": "request"})

    reply = server.request("GET", "/", user="fresh")

    assert access_line(server, reply.headers["x-request-id"])["cold"] is True


def deployed_everywhere(server: Server, name: str, **metadata: Any) -> None:
    """Deploys a worker and waits until both processes have noticed; it has then been asked at least twenty times."""
    component = build(GUESTS / "rpc_worker", wit_directory=WIT_DIRECTORY).read_bytes()
    assert server.deploy(name, component, **metadata).status == 200
    deadline, answered = time.monotonic() + 30, 0
    while answered < 20 and time.monotonic() < deadline:
        answered = answered + 1 if server.request("GET", "/", user=name).status == 200 else 0


def test_usage_is_exact_over_all_processes(server: Server) -> None:
    deployed_everywhere(server, "billed")
    before = settled_usage(server, "billed")
    for _ in range(30):
        assert server.request("PUT", "/echo", user="billed", body=BODY).status == 200
    server.request("GET", "/fail", user="billed")

    after = settled_usage(server, "billed")

    used = {
        name: after[name] - before[name] for name in ("requests", "calls", "errors", "bytes_in", "bytes_out", "cpu_ms")
    }
    assert (used["requests"], used["calls"], used["errors"]) == (31, 31, 1)
    assert used["bytes_in"] == 30 * len(BODY)
    assert used["bytes_out"] > 30 * len(BODY)
    assert used["cpu_ms"] > 0


def test_a_tenants_token_sees_its_own_usage_and_no_metrics(server: Server) -> None:
    body = json.dumps({"name": "tenant", "permissions": ["read"], "tenant": "production/quiet"}).encode()
    created = server.control("POST", "/client/v4/user/tokens", body=body)
    assert created.status == 200, created.text
    token = {"Authorization": f"Bearer {created.json()['result']['value']}"}
    server.request("GET", "/", user="quiet")
    server.request("GET", "/", user="acme")

    reply = server.control("GET", "/client/v4/accounts/local/usage", headers=token)

    assert {day["script"] for day in reply.json()["result"]} <= {"quiet"}
    assert server.control("GET", "/metrics", headers=token).status == 403
    tails = f"{SCRIPTS}/acme/tails"
    assert server.control("POST", tails, headers=token).status == 403


def test_metrics_count_tenants_and_processes(server: Server) -> None:
    server.request("GET", "/", user="acme")

    def metrics() -> str:
        reply = server.control("GET", "/metrics")
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("text/plain")
        return reply.text

    def processes(text: str) -> set[str]:
        return {line.partition("}")[0] for line in text.splitlines() if line.startswith("cloister_process_threads{")}

    # Each process writes what it has counted within a second of its start.
    counted = 'cloister_requests_total{namespace="production",status="2xx",tenant="acme"}'
    wait_until(lambda: counted in (text := metrics()) and len(processes(text)) == 2, "not all processes are there")
    text = metrics()
    for name in ("cloister_request_duration_seconds_bucket", "cloister_cpu_seconds_total", "cloister_instances"):
        assert f"{name}{{" in text
    assert 'tenant="nobody"' not in text


def test_metrics_need_a_token(server: Server) -> None:
    assert server.control("GET", "/metrics", headers={"Authorization": "Bearer wrong"}).status == 401


def tail_address(server: Server, filters: list[dict[str, Any]] | None = None) -> str:
    body = json.dumps({"filters": filters or []}).encode()
    reply = server.control("POST", f"{SCRIPTS}/acme/tails", body=body)
    assert reply.status == 200, reply.text
    return str(reply.json()["result"]["url"])


async def watch(server: Server, address: str, path: str, wanted: int) -> list[dict[str, Any]]:
    """The first events of a tail while requests come, on many connections and so to both processes."""
    seen: list[dict[str, Any]] = []
    async with aiohttp.ClientSession() as session, session.ws_connect(address, protocols=["trace-v1"]) as socket:
        assert socket.protocol == "trace-v1"
        deadline = time.monotonic() + 60
        while len(seen) < wanted and time.monotonic() < deadline:
            await asyncio.to_thread(server.request, "GET", path, user="acme")
            await asyncio.to_thread(server.request, "GET", "/", user="quiet")
            try:
                seen.append(await socket.receive_json(timeout=0.5))
            except TimeoutError:
                continue
    return seen


def test_a_tail_shows_a_tenants_calls_as_they_happen(server: Server) -> None:
    events = asyncio.run(watch(server, tail_address(server), "/fail", 4))

    assert len(events) == 4
    for event in events:
        assert (event["scriptName"], event["outcome"]) == ("acme", "exception")
        assert event["event"]["request"]["url"].endswith("/fail")
        assert event["exceptions"][0]["name"] == "CustomError"


def test_a_tail_shows_only_what_its_filters_let_through(server: Server) -> None:
    address = tail_address(server, [{"outcome": ["exception"]}, {"query": "secret of the tenant"}])

    async def both() -> list[dict[str, Any]]:
        async def calm() -> None:
            for _ in range(9):
                await asyncio.to_thread(server.request, "GET", "/", user="acme")

        found, _ = await asyncio.gather(watch(server, address, "/fail", 2), calm())
        return found

    assert {event["outcome"] for event in asyncio.run(both())} == {"exception"}


def test_the_command_line_shows_a_tail(server: Server) -> None:
    command = [sys.executable, "-m", "runtime.cli.main", "tail", "acme", "--method", "get", "--search", "/fail"]
    environment = {**os.environ, "CLOISTER_ADMIN_PORT": str(server.admin_port), "CLOISTER_ADMIN_TOKEN": TOKEN}

    def shown(*options: str) -> str:
        piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen([*command, *options, "--count", "1"], cwd=ROOT, env=environment, **piped) as process:
            try:
                assert process.stderr is not None and process.stderr.readline() == "Watching acme ...\n"
                deadline = time.monotonic() + 30
                while process.poll() is None and time.monotonic() < deadline:
                    server.request("GET", "/", user="acme")
                    server.request("GET", "/fail", user="acme")
                    time.sleep(0.1)
            finally:
                process.terminate()
            output, errors = process.communicate()
        assert process.returncode == 0, errors
        return output

    pretty, event = shown("--outcome", "exception"), json.loads(shown("--json"))

    assert " GET " in pretty and "/fail exception (cpu_ms=" in pretty
    assert "CustomError" in pretty
    assert (event["outcome"], event["exceptions"][0]["name"]) == ("exception", "CustomError")


def test_a_tails_address_is_good_only_as_long_as_the_tail(server: Server) -> None:
    address = tail_address(server).replace("ws://", "http://")
    path = address.partition("//")[2].partition("/")[2]

    assert server.control("GET", f"/{path}").status == 426
    assert server.control("GET", f"/{path[:-4]}AAAA").status == 404
    assert server.control("POST", f"{SCRIPTS}/missing/tails").status == 404


def test_what_a_worker_prints_is_in_the_log_under_the_requests_id(server: Server) -> None:
    reply = server.request("GET", "/fail", user="acme")

    access_line(server, reply.headers["x-request-id"])  # it is written after what the worker wrote
    entries = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    traces = [entry for entry in entries if entry.get("request") == reply.headers["x-request-id"]]
    assert any("CustomError: a secret of the tenant" in str(entry.get("message")) for entry in traces)
    assert TOKEN not in server.log.read_text()
