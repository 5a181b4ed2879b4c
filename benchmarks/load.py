"""Load from wrk, or from a small asyncio generator where wrk is missing; the report says which."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

WRK = shutil.which("wrk")

_SCRIPT = """
local requests = {}
local turn = 0
local prepare = function()
%s
end
request = function()
  if turn == 0 and #requests == 0 then prepare() end
  turn = turn %% #requests + 1
  return requests[turn]
end
done = function(summary, latency, _)
  local errors = summary.errors
  io.write(string.format('RESULT {"requests": %%d, "duration_us": %%d, "p50_us": %%f, "p99_us": %%f, "errors": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Request:
    """One request of a load; `path` with its query."""

    path: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None


@dataclass(frozen=True)
class Measured:
    """What a load of `seconds` gave. Latencies in ms."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def generator_name() -> str:
    return "wrk" if WRK else "asyncio (wrk is not installed: figures of fast servers are too low)"


def run(url: str, requests: Sequence[Request], *, connections: int, seconds: float) -> Measured:
    """Sends the requests in turn over `connections` connections. Raises RuntimeError if nothing was answered."""
    if WRK is None:
        return asyncio.run(_run_asyncio(url, requests, connections, seconds))
    lines = [
        f"requests[{i}] = wrk.format({_text(r.method)}, {_text(r.path)}, {_table(r.headers)}, {_text(r.body)})"
        for i, r in enumerate(requests, 1)
    ]
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "load.lua"
        # wrk.format works only after wrk's own set-up, so the requests are made when the first is asked for.
        script.write_text(_SCRIPT % "\n".join(lines))
        command = [WRK, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
        finished = subprocess.run(command, capture_output=True, text=True)
        if finished.returncode:
            raise RuntimeError(f"wrk failed: {finished.stderr or finished.stdout}")
        output = finished.stdout
    found = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
    if found is None:
        raise RuntimeError(f"wrk gave no result:\n{output}")
    result = json.loads(found.removeprefix("RESULT "))
    if result["requests"] == 0:
        raise RuntimeError(f"{url} answered nothing")
    return Measured(
        result["requests"],
        result["requests"] / result["duration_us"] * 1e6,
        result["p50_us"] / 1000,
        result["p99_us"] / 1000,
        result["errors"],
    )


def _table(headers: dict[str, str]) -> str:
    return "{" + ", ".join(f"[{json.dumps(k)}] = {json.dumps(v)}" for k, v in headers.items()) + "}"


def _text(body: str | None) -> str:
    return "nil" if body is None else json.dumps(body)


async def _run_asyncio(url: str, requests: Sequence[Request], connections: int, seconds: float) -> Measured:
    import aiohttp

    latencies: list[float] = []
    errors = 0
    end = time.perf_counter() + seconds

    async def client(session: aiohttp.ClientSession, turn: int) -> None:
        nonlocal errors
        while time.perf_counter() < end:
            request = requests[turn % len(requests)]
            turn += 1
            started = time.perf_counter()
            async with session.request(
                request.method, url.rstrip("/") + request.path, headers=request.headers, data=request.body
            ) as answer:
                await answer.read()
                errors += answer.status >= 400
            latencies.append(time.perf_counter() - started)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*[client(session, i) for i in range(connections)])
    if not latencies:
        raise RuntimeError(f"{url} answered nothing")
    latencies.sort()
    return Measured(
        len(latencies),
        len(latencies) / seconds,
        latencies[len(latencies) // 2] * 1000,
        latencies[int(len(latencies) * 0.99)] * 1000,
        errors,
    )
