"""A tenant that minds its own business, called all the while that others attack."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from tests.e2e.server import Server

NAME = "bystander"
PAUSE_S = 0.004
SAMPLES_MIN = 60
TIMEOUT_S = 60


class Calls:
    """Latencies, and whatever was wrong with an answer."""

    def __init__(self) -> None:
        self.latencies_ms: list[float] = []
        self.wrong: list[str] = []

    @property
    def p99_ms(self) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]


def _ask(connection: http.client.HTTPConnection, number: int) -> tuple[int, bytes]:
    """Asks again if a connection that was kept has been closed meanwhile, as every client of HTTP does (RFC 9112,
    section 9.3.1): where there are too many connections, idle ones go."""
    kept = connection.sock is not None
    try:
        connection.request("GET", f"/work?{number}", headers={"X-User-ID": NAME})
        answer = connection.getresponse()
    except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
        if not kept:
            raise
        connection.close()
        return _ask(connection, number)
    return answer.status, answer.read()


class Bystander:
    """Calls its worker one request after another: computing, KV, R2 and D1 in turn."""

    def __init__(self, server: Server) -> None:
        self._server = server
        reply = server.request("GET", "/work?0", user=NAME)
        assert reply.status == 200, reply.text

    @contextmanager
    def calling(self) -> Iterator[Calls]:
        """Calls until the block ends, and then until there are enough answers to speak of a percentile."""
        calls, stop = Calls(), threading.Event()
        thread = threading.Thread(target=self._call, args=(calls, stop), name="bystander")
        thread.start()
        try:
            yield calls
        finally:
            stop.set()
            thread.join()

    def quiet(self) -> Calls:
        with self.calling() as calls:
            time.sleep(1)
        return calls

    def _call(self, calls: Calls, stop: threading.Event) -> None:
        stored = hashlib.sha256(b"0").hexdigest()
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=TIMEOUT_S)
        try:
            for number in count(4):
                if stop.is_set() and len(calls.latencies_ms) >= SAMPLES_MIN:
                    return
                wanted = {
                    "digest": hashlib.sha256(str(number).encode()).hexdigest(),
                    "stored": stored if number % 4 else None,
                }
                started = time.perf_counter()
                try:
                    status, body = _ask(connection, number)
                except (OSError, http.client.HTTPException) as error:
                    calls.wrong.append(repr(error))
                    return
                calls.latencies_ms.append((time.perf_counter() - started) * 1000)
                if status != 200 or json.loads(body) != wanted:
                    calls.wrong.append(f"{status} {body[:200]!r}")
                time.sleep(PAUSE_S)
        finally:
            connection.close()
