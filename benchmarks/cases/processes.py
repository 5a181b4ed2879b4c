"""Two server processes on one port beside one: as much again, where the load leaves the second processor to them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.cases.hello import json_of
from benchmarks.cloister import WORKERS, cloister
from benchmarks.load import Request
from benchmarks.measure import CLOISTER, Contender, Goal, Plan, Row, compare, row

BODY_BYTES = 50 * 1024
"""What the guest parses and answers. A few ms of its time, so that the load generator takes little of a processor."""

CONNECTIONS = 64


def processes(plan: Plan) -> Iterator[Row]:
    """The same server with one process and with two."""
    body = json_of(BODY_BYTES)
    asked = [Request("/echo", "POST", {"X-User-ID": "echo", "Content-Type": "application/json"}, body)]
    with ExitStack() as stack:
        one = stack.enter_context(cloister())
        two = stack.enter_context(cloister(settings={"processes": 2}))
        for server in (one, two):
            server.deploy_directory(WORKERS / "echo")
        # The second process hears of it a moment after the first has answered.
        time.sleep(1)
        contenders = {
            CLOISTER: Contender(two, asked, lambda answer: bool(json.loads(answer) == json.loads(body))),
            "one process": Contender(one, asked, lambda answer: bool(json.loads(answer) == json.loads(body))),
        }
        samples = compare(plan, contenders, connections=CONNECTIONS)
        yield row("processes/2", samples, goal=Goal(1.6, "one process"))
        yield row("processes/2/p99", samples, "p99_ms")
