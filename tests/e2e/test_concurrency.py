"""Two server processes over one data directory: what they store is consistent, as seen by parallel clients of both."""

from __future__ import annotations

import http.client
import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.components import raw_component
from tests.e2e.server import SCRIPTS, Server, start
from tests.linearizability import History, is_linearizable
from tests.torture.buckets import assert_no_orphans

CLIENTS = 4
"""Of each process."""

SECONDS = 3.0

BINDINGS = [
    {"type": "kv_namespace", "name": "KV", "namespace_id": "kv"},
    {"type": "r2_bucket", "name": "R2", "bucket_name": "r2"},
    {"type": "d1", "name": "D1", "id": "d1"},
]


class Client:
    """A client of one server process; the tenant makes the calls that it is asked to make."""

    def __init__(self, server: Server, process: int, tenant: str) -> None:
        self._tenant = tenant
        while True:
            self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            self._connection.connect()
            self.call("bindings")
            if server.serving(self._connection.sock) == process:
                return
            self._connection.close()

    def call(self, *step: object) -> Any:
        """What the call gives. Raises RuntimeError with the error that the tenant got."""
        self._connection.request("POST", "/", json.dumps([step]), {"X-User-ID": self._tenant})
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        (result,) = json.loads(content)
        if "error" in result:
            raise RuntimeError(result["error"])
        return result["ok"]

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def pair(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = shutil.copytree(deployed, tmp_path_factory.mktemp("concurrency") / "data")
    with start(data, supervised=True, processes=2) as server:
        yield server


@pytest.fixture
def clients(pair: Server, request: pytest.FixtureRequest) -> Iterator[list[Client]]:
    """Clients of both processes in turn, of a tenant that has stored nothing."""
    tenant = request.node.name.replace("_", "-")[-40:].strip("-[]").replace("[", "-").replace("]", "")
    reply = pair.deploy(tenant, raw_component("intruder").read_bytes(), BINDINGS)
    assert reply.status == 200, reply.text
    time.sleep(1)
    with ExitStack() as stack:
        made = [Client(pair, process, tenant) for _ in range(CLIENTS) for process in pair.processes]
        for client in made:
            stack.callback(client.close)
        yield made


def in_parallel(clients: list[Client], work: Callable[[Client, random.Random], None]) -> None:
    """Each client works again and again until time is up. Raises what any of them raises."""
    errors: list[BaseException] = []
    until = time.monotonic() + SECONDS

    def run(client: Client, seed: int) -> None:
        chance = random.Random(seed)
        try:
            while time.monotonic() < until and not errors:
                work(client, chance)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(client, seed)) for seed, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


class Values:
    """Values that occur once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def next(self) -> str:
        with self._lock:
            self._count += 1
            return f"{self._count}"


def kv_get(client: Client, key: str) -> str | None:
    return client.call("kv.get", "KV", key)


def kv_put(client: Client, key: str, value: str) -> None:
    # Large ones go another way.
    client.call("kv.put", "KV", key, value if int(value) % 2 else value.rjust(1000))


def r2_get(client: Client, key: str) -> str | None:
    return client.call("r2.get", "R2", key)


def r2_put(client: Client, key: str, value: str) -> None:
    # Small ones are kept in the database, others in files.
    client.call("r2.put", "R2", key, value if int(value) % 2 else value.rjust(40_000))


def d1_get(client: Client, key: str) -> str | None:
    rows = client.call("d1.query", "D1", "SELECT value FROM register WHERE key = ?", [key])[0]["rows"]
    return rows[0][0] if rows else None


def d1_put(client: Client, key: str, value: str) -> None:
    client.call("d1.query", "D1", "INSERT OR REPLACE INTO register VALUES (?, ?)", [key, value])


STORES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]] = {
    "kv": (kv_get, kv_put, lambda client, key: client.call("kv.delete", "KV", key)),
    "r2": (r2_get, r2_put, lambda client, key: client.call("r2.delete", "R2", [key])),
    "d1": (
        d1_get,
        d1_put,
        lambda client, key: client.call("d1.query", "D1", "DELETE FROM register WHERE key = ?", [key]),
    ),
}


@pytest.mark.parametrize("store", STORES)
def test_each_key_is_linearizable(clients: list[Client], store: str) -> None:
    get, put, delete = STORES[store]
    if store == "d1":
        clients[0].call("d1.exec", "D1", "CREATE TABLE register (key TEXT PRIMARY KEY, value TEXT)")
    history, values = History(), Values()

    def work(client: Client, chance: random.Random) -> None:
        # Keys change with time, so that no register's history becomes too long to search.
        key = f"{int(time.monotonic() * 4)}-{chance.randrange(3)}"
        match chance.randrange(4):
            case 0:
                value = values.next()
                history.write(key, value, lambda: put(client, key, value))
            case 1 if chance.randrange(2):
                history.write(key, None, lambda: delete(client, key))
            case _:
                history.read(key, lambda: (found := get(client, key)) and found.strip())

    in_parallel(clients, work)

    assert sum(map(len, history.operations.values())) > 200
    for key, operations in history.operations.items():
        assert is_linearizable(operations), (key, sorted(operations, key=lambda operation: operation.began))


def test_a_batch_is_seen_whole_or_not_at_all(clients: list[Client]) -> None:
    clients[0].call(
        "d1.exec", "D1", "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER CHECK (balance >= 0))"
    )
    clients[0].call("d1.query", "D1", "INSERT INTO account VALUES (1, 100), (2, 100), (3, 100)")
    refused = threading.Event()

    def work(client: Client, chance: random.Random) -> None:
        if chance.randrange(2):
            ((total, count),) = client.call("d1.query", "D1", "SELECT sum(balance), count(*) FROM account")[0]["rows"]
            assert (total, count) == (300, 3)
            return
        source, target = chance.sample([1, 2, 3], 2)
        amount = chance.randrange(1, 60)
        try:
            client.call(
                "d1.batch",
                "D1",
                [
                    ["UPDATE account SET balance = balance + ? WHERE id = ?", [amount, target]],
                    ["UPDATE account SET balance = balance - ? WHERE id = ?", [amount, source]],
                ],
            )
        except RuntimeError as error:
            # The second statement has failed; the first one must not stay.
            assert "CHECK constraint failed" in str(error)
            refused.set()

    in_parallel(clients, work)

    assert refused.is_set()


def test_counters_lose_no_increment(clients: list[Client]) -> None:
    clients[0].call("d1.exec", "D1", "CREATE TABLE counter (n INTEGER)")
    clients[0].call("d1.query", "D1", "INSERT INTO counter VALUES (0)")
    done = [0] * len(clients)

    def work(client: Client, _chance: random.Random) -> None:
        client.call("d1.query", "D1", "UPDATE counter SET n = n + 1")
        done[clients.index(client)] += 1

    in_parallel(clients, work)

    assert clients[0].call("d1.query", "D1", "SELECT n FROM counter")[0]["rows"] == [[sum(done)]]


def test_put_delete_get_and_list_of_objects_agree_and_leave_nothing_behind(clients: list[Client], pair: Server) -> None:
    keys = ["a", "b", "c"]

    def work(client: Client, chance: random.Random) -> None:
        key = chance.choice(keys)
        match chance.randrange(4):
            case 0:
                client.call("r2.put", "R2", key, key * chance.randrange(1, 100_000))
            case 1:
                client.call("r2.delete", "R2", chance.sample(keys, 2))
            case 2:
                # Whole, of one writer, or gone; never an error.
                found = client.call("r2.get", "R2", key)
                assert found is None or found == key * len(found)
            case _:
                page = client.call("r2.list", "R2")
                names = [each["key"] for each in page["objects"]]
                assert names == sorted(set(names))
                assert set(names) <= set(keys)

    in_parallel(clients, work)

    for key in keys[1:]:
        clients[0].call("r2.delete", "R2", [key])
    clients[0].call("r2.put", "R2", "a", "last")
    assert_no_orphans(pair.data)


def test_of_racing_completions_and_aborts_one_wins(clients: list[Client], pair: Server) -> None:
    completed: list[str] = []
    lock = threading.Lock()
    open_uploads: dict[str, list[Any]] = {}

    def work(client: Client, chance: random.Random) -> None:
        # Pairs of clients, one in each process, race for the same uploads.
        with lock:
            fresh = [upload for upload, users in open_uploads.items() if len(users) < 2 and client not in users]
            if fresh:
                open_uploads[fresh[0]].append(client)
        if not fresh:
            upload = client.call("r2.create-multipart-upload", "R2", "object")
            with lock:
                open_uploads[upload] = []
            return
        upload = fresh[0]
        try:
            part = client.call("r2.upload-part", "R2", "object", upload, 1, upload)
            if chance.randrange(2):
                client.call("r2.abort-multipart-upload", "R2", "object", upload)
            else:
                client.call("r2.complete-multipart-upload", "R2", "object", upload, [part])
                with lock:
                    completed.append(upload)
        except RuntimeError as error:
            # The other one was faster: the upload is over, or the part is not the one that was uploaded.
            assert "10024" in str(error) or "10025" in str(error), error

    in_parallel(clients, work)

    assert completed
    assert len(completed) == len(set(completed))
    assert clients[0].call("r2.get", "R2", "object") in completed
    for upload in open_uploads:
        clients[0].call("r2.abort-multipart-upload", "R2", "object", upload)
    assert_no_orphans(pair.data)


def test_data_that_was_purged_is_gone_for_every_process_and_what_is_stored_anew_stays(pair: Server) -> None:
    component = raw_component("intruder").read_bytes()
    steps = {
        "kv": (["kv.put", "KV", "k", "old"], ["kv.get", "KV", "k"]),
        "r2": (["r2.put", "R2", "k", "old"], ["r2.get", "R2", "k"]),
    }
    assert pair.deploy("purged", component, BINDINGS).status == 200
    time.sleep(1)
    clients = [Client(pair, process, "purged") for process in pair.processes]
    for client in clients:
        for put, _get in steps.values():
            client.call(*put)
        client.call("d1.exec", "D1", "CREATE TABLE IF NOT EXISTS old (x)")

    # Both processes have the stores open. The tenant is deployed again before the other process hears of its end.
    reply = pair.control("DELETE", f"{SCRIPTS}/purged?purge_data=true")
    assert reply.json()["result"]["data_purged"]
    assert pair.deploy("purged", component, BINDINGS).status == 200

    time.sleep(1)
    for client in clients:
        for _put, get in steps.values():
            assert client.call(*get) is None
        with pytest.raises(RuntimeError, match="no such table"):
            client.call("d1.query", "D1", "SELECT * FROM old")
    clients[0].call("kv.put", "KV", "k", "new")
    clients[0].call("r2.put", "R2", "k", "new")
    clients[0].call("d1.exec", "D1", "CREATE TABLE new (x)")
    assert clients[1].call("kv.get", "KV", "k") == "new"
    assert clients[1].call("r2.get", "R2", "k") == "new"
    assert clients[1].call("d1.query", "D1", "SELECT * FROM new")[0]["rows"] == []
    for client in clients:
        client.close()
