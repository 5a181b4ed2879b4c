"""KV, R2 and D1: operations in a second, alone (the store's own calls) and through a guest, beside Miniflare's bindings
in a JavaScript worker; and how they grow with the number of keys.

In a guest a request does many operations one after another, so HTTP hardly counts. Cloister's writes are on disk when
they are answered; Miniflare's are not.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.cases.platform import DURABILITY
from benchmarks.cloister import WORKERS, Cloister, cloister
from benchmarks.measure import CLOISTER, Goal, Plan, Row, alternate
from benchmarks.peers import Server, miniflare_stores
from host_bindings.d1.database import Database, Statement
from host_bindings.d1.service import SqlService
from host_bindings.kv.store import KVNamespace
from host_bindings.r2.store import Bucket

ALONE = "alone"
VALUE = b"v" * 100
OBJECT = VALUE * 10
MIB = 1024 * 1024
SIZES = {"1KiB": 1024, "1MiB": MIB, "100MiB": 100 * MIB}
KEYS = 1000
KEY_COUNTS = (1_000, 100_000, 1_000_000)
GROWING = ("kv-get", "kv-put", "kv-list", "r2-get", "r2-list", "d1-read", "d1-insert")
WRITERS = 32
BATCH = 100
INSERT = Statement("INSERT INTO rows (content) VALUES (?)", ("v" * 100,))
AS_TENANT = {"X-User-ID": "stores"}

Measure = Callable[[], float]
"""Measures once: operations in a second."""


@dataclass(frozen=True)
class Operation:
    """`once` does it on the n-th key, without a guest; each of the `writers` does it `count` times."""

    name: str
    once: Callable[[int], Awaitable[object]]
    count: int
    writers: int = 1


STORES = ("kv", "r2", "d1")


def stores(plan: Plan, which: tuple[str, ...] = STORES) -> Iterator[Row]:
    """Every operation, at a thousand keys, alone, through a guest, and on Miniflare."""
    with ExitStack() as stack:
        server = stack.enter_context(cloister())
        server.deploy_directory(WORKERS / "stores")
        peer = plan.start(stack, "miniflare", partial(miniflare_stores, plan.directory / "miniflare"))
        present: dict[str, Server] = {CLOISTER: server} | ({} if peer is None else {"miniflare": peer})
        loop = stack.enter_context(asyncio.Runner())
        alone = loop.run(_open(plan.directory / "alone"))
        stack.callback(lambda: loop.run(alone.close()))
        disk = alternate(plan, {"disk": partial(_disk_rate, plan.directory, 1 if plan.smoke else 200)})
        yield Row(
            "stores/disk", "fsyncs/s", disk["disk"], note="4 KiB appended and on disk: the floor of a durable write"
        )
        for operation in ("kv-put", "r2-put", "d1-prepare"):
            for asked in present.values():
                if operation.startswith(which):
                    ask(asked, operation, KEYS)
        for each in alone.operations():
            if not each.name.startswith(which):
                continue
            count = 1 if plan.smoke else each.count
            measures: dict[str, Measure] = {
                who: partial(rate, server, each.name, count, each.writers) for who, server in present.items()
            }
            measures[ALONE] = partial(_rate_alone, loop, each.once, count, each.writers)
            yield from _rows(plan, f"{each.name}/{each.writers}", measures)
        sizes = plan.some(tuple(SIZES.items())[::-1])[::-1] if "r2" in which else ()
        for name, size in sizes:
            yield from _objects(plan, present, loop, alone, name, size)


def _rows(plan: Plan, name: str, measures: Mapping[str, Measure], unit: str = "operations/s") -> Iterator[Row]:
    plan.say(name)
    found = alternate(plan, measures)
    peer = {"miniflare": found["miniflare"]} if "miniflare" in found else {}
    note = DURABILITY if "put" in name or "insert" in name or "batch" in name else ""
    for way, values in (("guest", found[CLOISTER]), ("alone", found[ALONE])):
        yield Row(f"stores/{name}/{way}", unit, values, peer, Goal(3, "miniflare"), note)


class _Alone:
    """The stores without a server."""

    def __init__(self, directory: Path) -> None:
        self.kv = KVNamespace(directory / "kv")
        self.r2 = Bucket(directory / "r2")
        self._sql = SqlService(directory)
        self.d1 = Database(directory / "owner" / "d1", self._sql)

    def operations(self) -> tuple[Operation, ...]:
        read = "SELECT content FROM rows WHERE id = ?"
        return (
            Operation("kv-get", lambda n: self.kv.get(key(n % KEYS)), 400),
            Operation("kv-put", lambda n: self.kv.put(key(n % KEYS), VALUE), 200),
            Operation("kv-put", lambda n: self.kv.put(key(n % KEYS), VALUE), 50, WRITERS),
            Operation("r2-get", lambda n: self.r2.get(key(n % KEYS)), 300),
            Operation("r2-put", lambda n: self.r2.put(key(n % KEYS), OBJECT), 50),
            Operation("d1-read", lambda n: self.d1.query([Statement(read, (n % KEYS + 1,))]), 200),
            Operation("d1-insert", lambda n: self.d1.query([INSERT]), 100),
            Operation("d1-batch", lambda n: self.d1.query([INSERT] * BATCH), 10),
        )

    async def close(self) -> None:
        for each in (self.kv, self.r2, self.d1, self._sql):
            await each.close()


async def _open(directory: Path) -> _Alone:
    made = _Alone(directory)
    await asyncio.gather(*[made.kv.put(key(n), VALUE) for n in range(KEYS)])
    await asyncio.gather(*[made.r2.put(key(n), OBJECT) for n in range(KEYS)])
    await made.d1.query([Statement("CREATE TABLE rows (id INTEGER PRIMARY KEY, content TEXT)"), *[INSERT] * 999])
    return made


def key(n: int) -> str:
    return f"key-{n:07d}"


def ask(server: Server, operation: str, count: int, start: int = 0, step: int = 1) -> None:
    """Lets the guest do an operation `count` times. Raises RuntimeError for an error."""
    path = f"/?op={operation}&n={count}&from={start}&step={step}"
    _exchange(server, "GET", path)


def rate(server: Server, operation: str, count: int, writers: int, step: int = 1) -> float:
    """Operations in a second, by so many requests at the same time that do `count` each."""
    starts = [writer * KEYS // writers for writer in range(writers)]
    with ThreadPoolExecutor(writers) as threads:
        # Before it counts: instances.
        list(threads.map(lambda start: ask(server, operation, 1, start, step), starts))
        began = time.perf_counter()
        list(threads.map(lambda start: ask(server, operation, min(count, KEYS), start, step), starts))
        return writers * min(count, KEYS) / (time.perf_counter() - began)


def _rate_alone(loop: asyncio.Runner, once: Callable[[int], Awaitable[object]], count: int, writers: int) -> float:
    async def write(start: int) -> None:
        for n in range(count):
            await once(start + n)

    async def main() -> float:
        began = time.perf_counter()
        await asyncio.gather(*[write(writer * KEYS // writers) for writer in range(writers)])
        return writers * count / (time.perf_counter() - began)

    return loop.run(main())


def _disk_rate(directory: Path, count: int) -> float:
    """Pages of a log written to disk in a second, one after another."""
    with (directory / "log").open("wb", buffering=0) as file:
        began = time.perf_counter()
        for _ in range(count):
            file.write(b"p" * 4096)
            os.fdatasync(file.fileno())
        return count / (time.perf_counter() - began)


def _objects(
    plan: Plan, present: Mapping[str, Server], loop: asyncio.Runner, alone: _Alone, name: str, size: int
) -> Iterator[Row]:
    content = secrets.token_bytes(size)
    count = 1 if plan.smoke else max(1, min(50, 20 * MIB // size))

    buffer = bytearray(size)

    def through(server: Server, method: str) -> float:
        connection = HTTPConnection(urlsplit(server.url).netloc, timeout=600)
        path, body = f"/object?key={name}", content if method == "PUT" else None
        with closing(connection):
            began = time.perf_counter()
            for _ in range(count):
                connection.request(method, path, body, AS_TENANT)
                answer = connection.getresponse()
                # Into one buffer: the client must not be what is measured.
                read = answer.readinto(buffer) if method == "GET" else len(answer.read())
                while method == "GET" and read < size and (more := answer.readinto(memoryview(buffer)[read:])):
                    read += more
                answer.read()
            seconds = time.perf_counter() - began
        if answer.status != 200 or (method == "GET" and buffer != content):
            raise RuntimeError(f"{method} of an object of {name}: {answer.status}")
        return count / seconds

    async def get(_: int) -> None:
        found = await alone.r2.get(name)
        assert found is not None and found.body is not None
        async for _piece in found.body.chunks():
            pass

    methods = (("PUT", lambda _: alone.r2.put(name, content)), ("GET", get))
    for method, once in methods:
        measures: dict[str, Measure] = {who: partial(through, server, method) for who, server in present.items()}
        measures[ALONE] = partial(_rate_alone, loop, once, count, 1)
        yield from _rows(plan, f"r2-{method.lower()}-{name}", measures, "objects/s")


def _exchange(server: Server, method: str, path: str, body: bytes | None = None) -> bytes:
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=600)
    try:
        connection.request(method, path, body, AS_TENANT)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status >= 400:
        raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
    return content


def store_growth(plan: Plan) -> Iterator[Row]:
    """The cost of point reads, durable writes and listings of 1,000 keys, from 1,000 keys to 1,000,000."""
    counts = KEY_COUNTS[:2] if plan.smoke else KEY_COUNTS
    found: dict[int, dict[str, tuple[float, ...]]] = {}
    with cloister() as server:
        server.deploy_directory(WORKERS / "stores")
        for operation in ("kv-put", "r2-put", "d1-prepare"):
            ask(server, operation, 1)
        for count in counts:
            plan.say(f"{count:,} keys")
            _fill(server, count)
            found[count] = alternate(
                plan, {operation: partial(_rate_among, server, operation, count, plan.smoke) for operation in GROWING}
            )
    peer = _miniflare_listing(plan, counts[-1])
    for operation in GROWING:
        for count in counts[1:]:
            first = {f"cloister at {counts[0]:,} keys": found[counts[0]][operation]}
            yield Row(
                f"stores/{operation}-of-{count}", "operations/s", found[count][operation], first, Goal(0.7, *first)
            )
    yield Row(
        f"stores/kv-list-of-{counts[-1]}/miniflare", "lists/s", found[counts[-1]]["kv-list"], peer, Goal(3, "miniflare")
    )


def _rate_among(server: Server, operation: str, count: int, smoke: bool) -> float:
    """Operations in a second on keys that are spread over all of so many, or listings by prefixes of theirs."""
    if operation.endswith("list"):
        return rate(server, operation, 1 if smoke else 10, 1, 0 if count == KEYS else count // 10_000)
    return rate(server, operation, 1 if smoke else 400, 1, max(1, count // KEYS))


_NUMBERS = "WITH RECURSIVE c (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < :count - 1)"
_KEY = "CAST(printf('key-%07d', n) AS BLOB)"
_FILLS = {
    "kv_namespace/*/kv.sqlite": f"{_NUMBERS} INSERT OR REPLACE INTO entries (key, value) SELECT {_KEY}, :value FROM c",
    # All objects share the content of one, so nothing but that one is to be replaced afterwards.
    "r2_bucket/*/r2.sqlite": f"{_NUMBERS} INSERT OR IGNORE INTO objects SELECT {_KEY}, version, size, etag, "
    "uploaded_ms, checksums, storage_class, file, http_metadata, custom_metadata "
    "FROM c, (SELECT * FROM objects LIMIT 1)",
    "d1/*/database.sqlite": f"{_NUMBERS} INSERT OR IGNORE INTO rows SELECT n + 1, CAST(:value AS TEXT) FROM c",
}


def _fill(server: Cloister, count: int) -> None:
    """Adds keys until there are `count`, behind the server's back: by its own path it would take minutes."""
    for pattern, sql in _FILLS.items():
        (path,) = (server.data / "resources").glob(f"*/{pattern}")
        with closing(sqlite3.connect(path, timeout=60)) as connection, connection:
            connection.execute(sql, {"count": count, "value": VALUE})


def _miniflare_listing(plan: Plan, count: int) -> dict[str, tuple[float, ...]]:
    """Listings of 1,000 of so many keys on Miniflare, whose database is filled behind its back too."""
    directory = plan.directory / "miniflare-listing"
    for prepared in (False, True):
        with ExitStack() as stack:
            peer = plan.start(stack, "miniflare", partial(miniflare_stores, directory))
            if peer is None:
                return {}
            if prepared:
                return alternate(plan, {"miniflare": partial(rate, peer, "kv-list", 1 if plan.smoke else 3, 1)})
            ask(peer, "kv-put", 1)
        paths = [path for path in directory.glob("kv/**/*.sqlite") if "metadata" not in path.name]
        for path in paths:
            with closing(sqlite3.connect(path, timeout=60)) as connection, connection:
                connection.execute(
                    "WITH RECURSIVE c (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < ? - 1) "
                    "INSERT OR REPLACE INTO _mf_entries (key, blob_id) SELECT printf('key-%07d', n), 'none' FROM c",
                    (count,),
                )
    return {}
