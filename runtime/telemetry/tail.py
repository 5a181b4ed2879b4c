"""Live tails: what a worker's calls logged and came to, for whoever is watching, whichever process served them.

A tail that somebody opens is a row in a small database that all server processes watch; while there is one, they write
the tenant's events there, and the process that serves the management API reads them out. Nothing of it outlives its
tail. Nobody watching costs a request one look into an empty dictionary.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from host_bindings.storage.wal import use_wal
from runtime.telemetry.meters import TenantKey

POLL_S = 0.25
"""How soon a process notices a new tail, and a tail an event of another process."""

TAIL_S = 6 * 3600.0
"""How long a tail lasts at most."""

SILENT_S = 30.0
"""A tail that nobody reads is closed after so long."""

_BUSY_MS = 5_000

TAILS_PER_TENANT_MAX = 10
EVENTS_WAITING_MAX = 1_000
"""For each process; what comes while so many wait to be written is left out, and the next event says how many."""

REQUESTS_REMEMBERED = 1_000
LOGS_PER_EVENT_MAX = 256
TEXT_CHARACTERS_MAX = 16_384

_KNOWN_TO_CLIENTS = frozenset({"ok", "exception", "exceededCpu", "exceededMemory", "canceled"})
"""Outcomes that `wrangler tail --status` can name; it calls all others `unknown`."""

_HIDDEN = ("auth", "cookie", "key", "secret", "token", "jwt")
"""Headers with such a word in their names are shown as REDACTED."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tails (
    id TEXT NOT NULL PRIMARY KEY,
    namespace TEXT NOT NULL,
    script TEXT NOT NULL,
    filters TEXT NOT NULL,
    expires REAL NOT NULL,
    read REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    tail TEXT NOT NULL REFERENCES tails (id) ON DELETE CASCADE,
    event TEXT NOT NULL
) STRICT;
"""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Filters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events a tail shows: all that fit every filter that is set."""

    sampling_rate: float = 1.0
    outcomes: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    """HTTP statuses; 1 to 5 stand for all of their hundred. That of a call without an answer is its error's."""
    text: str = ""
    """What a log message, an exception or the address must contain."""
    header: tuple[str, str] | None = None
    """A request header and what it must contain."""
    version: str = ""
    """The id of a version."""


@dataclass(frozen=True)
class CalledEvent:
    """A call of a worker that is over. `headers` is header text; `exception` a name, a message and a traceback.

    `status` is that of the worker's answer, 0 without one; `error_status` what the error is answered with, if that is
    left to the server.
    """

    version: str
    request_id: str
    outcome: str
    method: str
    url: str
    headers: str
    rpc_method: str
    status: int
    exception: tuple[str, str, str] | None
    cpu_ns: int
    started_ns: int
    error_status: int = 0


@dataclass(frozen=True)
class Tail:
    """One that is open. `id` opens it to whoever knows it."""

    id: str
    key: TenantKey
    filters: Filters
    expires: float


class Tails:
    """The tails that there are, and the way of events to them. Belongs to one event loop; every process has one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wanted: dict[TenantKey, list[Tail]] = {}
        self._logs: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()
        self._waiting: deque[tuple[str, str]] = deque()
        self._left_out = 0
        self._data_version = -1
        self._changes = -1

    async def open(self) -> None:
        """Raises `apsw.Error` or `OSError`."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tails")
        self._connection = await self._run(self._connect)
        self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self._run(self._connection.close)
        self._thread.shutdown()

    # For those who serve requests

    def wanted(self, key: TenantKey) -> bool:
        """Whether anybody watches the tenant."""
        return key in self._wanted

    def logged(self, key: TenantKey, request_id: str, level: str, message: str) -> None:
        """A worker has written to its log."""
        if key not in self._wanted:
            return
        entries = self._logs.setdefault(request_id, [])
        if len(entries) < LOGS_PER_EVENT_MAX:
            shown = "log" if level == "info" else level
            entries.append({"message": [message[:TEXT_CHARACTERS_MAX]], "level": shown, "timestamp": _now_ms()})
        while len(self._logs) > REQUESTS_REMEMBERED:
            self._logs.popitem(last=False)

    def called(self, key: TenantKey, called: CalledEvent) -> None:
        """A call is over: an event for each tail whose filters it fits."""
        logs = self._logs.pop(called.request_id, [])
        for tail in self._wanted.get(key, ()):
            if not _fits(tail.filters, called, logs):
                continue
            if len(self._waiting) >= EVENTS_WAITING_MAX:
                self._left_out += 1
                continue
            event = _event(key, called, logs)
            if self._left_out:
                event["leftOut"], self._left_out = self._left_out, 0
            self._waiting.append((tail.id, json.dumps(event, separators=(",", ":"))))

    # For those who watch

    async def create(self, key: TenantKey, filters: Filters) -> Tail:
        """Opens a tail. Raises ValueError if the tenant has too many."""
        tail = Tail(secrets.token_urlsafe(32), key, filters, time.time() + TAIL_S)

        def insert() -> bool:
            with self._connection:
                self._connection.execute("DELETE FROM tails WHERE expires < ?1 OR read < ?2", _deadlines())
                (count,) = self._connection.execute(
                    "SELECT count(*) FROM tails WHERE namespace = ? AND script = ?", key
                ).fetchone() or (0,)
                fits = int(count) < TAILS_PER_TENANT_MAX
                if fits:
                    encoded = msgspec.json.encode(filters).decode()
                    row = (tail.id, *key, encoded, tail.expires, time.time())
                    self._connection.execute("INSERT INTO tails VALUES (?, ?, ?, ?, ?, ?)", row)
            return fits

        if not await self._run(insert):
            raise ValueError(f"there are {TAILS_PER_TENANT_MAX} tails of this worker already; close one of them")
        await self._refresh()
        return tail

    async def find(self, id: str) -> Tail | None:
        return next((tail for tail in await self._run(self._read) if tail.id == id), None)

    async def of(self, key: TenantKey) -> list[Tail]:
        return [tail for tail in await self._run(self._read) if tail.key == key]

    async def set_filters(self, id: str, filters: Filters) -> None:
        encoded = msgspec.json.encode(filters).decode()
        await self._run(lambda: self._connection.execute("UPDATE tails SET filters = ? WHERE id = ?", (encoded, id)))
        await self._refresh()

    async def delete(self, id: str) -> bool:
        def delete() -> bool:
            with self._connection:
                self._connection.execute("DELETE FROM events WHERE tail = ?", (id,))
                self._connection.execute("DELETE FROM tails WHERE id = ?", (id,))
                deleted = self._connection.changes() == 1
            return deleted

        deleted = await self._run(delete)
        await self._refresh()
        return deleted

    async def events(self, id: str) -> AsyncIterator[str]:
        """The tail's events as they come, as JSON text, until it is closed or has expired."""

        def take() -> list[str] | None:
            with self._connection:
                self._connection.execute("UPDATE tails SET read = ? WHERE id = ?", (time.time(), id))
                open_still = self._connection.changes() == 1
                rows = self._connection.execute("DELETE FROM events WHERE tail = ? RETURNING event", (id,)).fetchall()
            return [str(event) for (event,) in rows] if open_still else None

        while (found := await self._run(take)) is not None:
            for event in found:
                yield event
            await asyncio.sleep(POLL_S)

    # The database

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _connect(self) -> apsw.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(_BUSY_MS)
        use_wal(connection, _BUSY_MS / 1000)
        for name, value in (("synchronous", "OFF"), ("foreign_keys", 1)):
            connection.pragma(name, value)
        connection.execute(_SCHEMA)
        return connection

    async def _watch(self) -> None:
        failing = False
        while True:
            try:
                await self._refresh()
                if self._waiting:
                    await self._write()
                failing = False
            except apsw.Error as error:
                if not failing:
                    _log.error("Tails do not work at present: %s", error)
                failing = True
            await asyncio.sleep(POLL_S)

    async def _refresh(self) -> None:
        def read() -> list[Tail] | None:
            version = int(self._connection.pragma("data_version"))
            changed = version != self._data_version or self._connection.total_changes() != self._changes
            self._data_version, self._changes = version, self._connection.total_changes()
            return self._read() if changed or self._wanted else None

        found = await self._run(read)
        if found is None:
            return
        wanted: dict[TenantKey, list[Tail]] = {}
        for tail in found:
            wanted.setdefault(tail.key, []).append(tail)
        self._wanted = wanted
        if not wanted:
            self._logs.clear()

    def _read(self) -> list[Tail]:
        now, silent = _deadlines()
        rows = self._connection.execute(
            "SELECT id, namespace, script, filters, expires FROM tails WHERE expires >= ? AND read >= ?", (now, silent)
        )
        return [
            Tail(id, TenantKey(namespace, script), msgspec.json.decode(filters, type=Filters), expires)
            for id, namespace, script, filters, expires in rows
        ]

    async def _write(self) -> None:
        taken = list(self._waiting)
        self._waiting.clear()

        def insert() -> None:
            with self._connection:
                # A tail may have been closed meanwhile.
                self._connection.executemany(
                    "INSERT INTO events (tail, event) SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM tails WHERE id = ?1)",
                    taken,
                )

        await self._run(insert)


def _deadlines() -> tuple[float, float]:
    now = time.time()
    return now, now - SILENT_S


def _now_ms() -> int:
    return int(time.time() * 1000)


def _fits(filters: Filters, called: CalledEvent, logs: Sequence[Mapping[str, Any]]) -> bool:
    shown = called.outcome if called.outcome in _KNOWN_TO_CLIENTS else "unknown"
    if filters.outcomes and called.outcome not in filters.outcomes and shown not in filters.outcomes:
        return False
    if filters.version not in ("", called.version):
        return False
    if filters.methods and called.method.upper() not in filters.methods:
        return False
    status = called.status or called.error_status
    if filters.statuses and not {status, status // 100} & set(filters.statuses):
        return False
    if filters.header is not None:
        name, text = filters.header
        values = [value for key, value in _headers(called.headers).items() if key == name.lower()]
        if not values or text not in values[0]:
            return False
    if filters.text:
        texts = [str(entry["message"][0]) for entry in logs] + list(called.exception or ()) + [called.url]
        if not any(filters.text in text for text in texts):
            return False
    return filters.sampling_rate >= 1 or random.random() < filters.sampling_rate  # noqa: S311


def _headers(text: str) -> dict[str, str]:
    return {
        name: "REDACTED" if any(word in name for word in _HIDDEN) else value.strip()
        for name, _, value in (line.partition(":") for line in text.splitlines())
    }


def _event(key: TenantKey, called: CalledEvent, logs: list[dict[str, Any]]) -> dict[str, Any]:
    """In the shape of Cloudflare's tail events (workerd, src/workerd/io/trace.h)."""
    now_ms = _now_ms()
    exceptions = []
    if called.exception is not None:
        name, message, stack = (text[:TEXT_CHARACTERS_MAX] for text in called.exception)
        exceptions.append({"name": name, "message": message, "stack": stack, "timestamp": now_ms})
    if called.rpc_method:
        event: dict[str, Any] = {"rpcMethod": called.rpc_method}
    else:
        request = {"method": called.method, "url": called.url, "headers": _headers(called.headers), "cf": {}}
        event = {"request": request}
        if called.status:
            event["response"] = {"status": called.status}
    wall_ms = (time.perf_counter_ns() - called.started_ns) / 1e6
    return {
        "scriptName": key.script,
        "dispatchNamespace": key.namespace,
        "scriptVersion": {"id": called.version},
        "entrypoint": "Default",
        "requestId": called.request_id,
        "outcome": called.outcome,
        "executionModel": "stateless",
        "eventTimestamp": int(now_ms - wall_ms),
        "event": event,
        "logs": logs,
        "exceptions": exceptions,
        "diagnosticsChannelEvents": [],
        "cpuTime": round(called.cpu_ns / 1e6, 3),
        "wallTime": round(wall_ms, 3),
        "truncated": len(logs) >= LOGS_PER_EVENT_MAX,
    }
