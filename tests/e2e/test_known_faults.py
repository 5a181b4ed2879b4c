"""What the public demo gets wrong, and this platform does not: counts, names that collide, lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import Reply, Server, start

Tenant = Callable[[], str]


def in_parallel(requests: Iterable[Callable[[], Reply]], clients: int = 32) -> list[Reply]:
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda request: request(), requests))


def stats(platform: Server, user: str) -> Any:
    reply = platform.request("GET", "/stats", user=user)
    assert reply.status == 200, reply.text
    return reply.json()


def test_200_parallel_uploads_of_different_keys_are_200_files(platform: Server, fresh_tenant: Tenant) -> None:
    user = fresh_tenant()

    replies = in_parallel(
        [lambda n=n: platform.upload_file(f"file-{n}", b"x" * n, user=user) for n in range(200)]  # type: ignore[misc]
    )

    assert {reply.status for reply in replies} == {200}
    after = stats(platform, user)
    assert after["files"] == {"count": 200, "totalSize": sum(range(200))}
    assert after["storage"]["r2Objects"] == 200
    assert after["activity"]["totalOperations"] == 200


def test_16_parallel_uploads_of_one_key_are_one_file(platform: Server, fresh_tenant: Tenant) -> None:
    user = fresh_tenant()

    replies = in_parallel(
        [lambda n=n: platform.upload_file("same", b"x" * (n + 1), user=user) for n in range(16)]  # type: ignore[misc]
    )

    assert {reply.status for reply in replies} == {200}
    after = stats(platform, user)
    content = platform.request("GET", "/files?key=same", user=user).body
    assert after["files"] == {"count": 1, "totalSize": len(content)}
    assert after["storage"]["r2Objects"] == 1
    assert after["activity"]["totalOperations"] == 16


def test_deletes_come_off(platform: Server, fresh_tenant: Tenant) -> None:
    user = fresh_tenant()
    for n in range(5):
        platform.upload_file(f"file-{n}", b"12345", user=user)
        platform.request("POST", "/data", user=user, json={"key": f"key-{n}", "value": "x"})

    for n in range(3):
        platform.request("DELETE", f"/files?key=file-{n}", user=user)
        platform.request("DELETE", f"/data?key=key-{n}", user=user)
    platform.request("DELETE", "/files?key=never-there", user=user)
    platform.request("DELETE", "/data?key=never-there", user=user)

    after = stats(platform, user)
    assert after["files"] == {"count": 2, "totalSize": 10}
    assert after["storage"] == {"kvKeys": 2, "r2Objects": 2}


def test_an_upload_over_an_old_file_counts_once_with_its_new_size(platform: Server, fresh_tenant: Tenant) -> None:
    user = fresh_tenant()

    platform.upload_file("file", b"x" * 1000, user=user)
    platform.upload_file("file", b"x", user=user)

    assert stats(platform, user)["files"] == {"count": 1, "totalSize": 1}


def test_total_operations_do_not_stop_at_100(platform: Server, fresh_tenant: Tenant) -> None:
    user = fresh_tenant()
    numbers = count()

    replies = in_parallel(
        [
            lambda: platform.request("POST", "/data", user=user, json={"key": f"k{next(numbers) % 7}", "value": "x"})
            for _ in range(130)
        ]
    )

    assert {reply.status for reply in replies} == {200}
    after = stats(platform, user)
    assert after["activity"]["totalOperations"] == 130
    assert after["activity"]["lastActivity"] is not None
    assert after["storage"]["kvKeys"] == 7


HOSTILE_KEYS = [
    "activity_log",
    "activity-log",
    "file_list",
    "files",
    "_files",
    "__files__",
    "stats",
    "log",
    "_cf_KV",
    "undefined",
    "null",
    "meta:files",
    "data:x",
    "file:x",
    "user1:x",
    ":",
    "/",
    "../x",
    "a/../b",
    "%2F",
    "%00",
    "'; DROP TABLE files; --",
    "é",
    "e\u0301",
    "😀",
    " ",
    "KEY",
    "key",
    "key.",
    "a" * 400,
]


def test_no_key_of_a_user_disturbs_the_platforms_own_books(platform: Server, fresh_tenant: Tenant) -> None:
    user = fresh_tenant()

    for n, key in enumerate(HOSTILE_KEYS):
        assert platform.request("POST", "/data", user=user, json={"key": key, "value": f"v{n}"}).status == 200
        assert platform.upload_file(key, f"f{n}".encode(), user=user).status == 200
    after = stats(platform, user)

    for n, key in enumerate(HOSTILE_KEYS):
        escaped = "".join(f"%{byte:02X}" for byte in key.encode())
        assert platform.request("GET", f"/data?key={escaped}", user=user).json() == {"key": key, "value": f"v{n}"}
        assert platform.request("GET", f"/files?key={escaped}", user=user).text == f"f{n}"
    assert after["files"]["count"] == len(HOSTILE_KEYS)
    assert after["storage"] == {"kvKeys": len(HOSTILE_KEYS), "r2Objects": len(HOSTILE_KEYS)}
    assert after["activity"]["totalOperations"] == 2 * len(HOSTILE_KEYS)


def test_lists_show_only_what_the_user_stored(data: Path, dispatcher: Path) -> None:
    with start(data, dispatcher=dispatcher) as server:
        for key in ("b", "a", "activity"):
            server.request("POST", "/data", json={"key": key, "value": "x"})
            server.upload_file(f"file-{key}", b"x")
        server.request("POST", "/query", json={"sql": "CREATE TABLE mine (a)", "params": []})
        server.stop()
    with start(data, dispatcher=Path(__file__).parent / "rpc_dispatcher") as server:
        files = server.request("POST", "/call?method=list_files", json={}).json()["result"]
        values = server.request("POST", "/call?method=list_data", json={}).json()["result"]

    assert [entry["key"] for entry in values] == ["a", "activity", "b"]
    assert [entry["key"] for entry in files] == ["file-a", "file-activity", "file-b"]


@pytest.mark.parametrize("statement", ["DROP TABLE {}", "DELETE FROM {}", "UPDATE {} SET rowid = 1"])
def test_sql_of_a_user_cannot_reach_the_platforms_own_tables(
    platform: Server, fresh_tenant: Tenant, statement: str
) -> None:
    """Counts stay exact though a user has SQL: whatever tables a user finds, changing them does not change counts."""
    user = fresh_tenant()
    platform.upload_file("file", b"12345", user=user)
    before = stats(platform, user)
    found = platform.request(
        "POST", "/query", user=user, json={"sql": "SELECT name FROM sqlite_master WHERE type = 'table'", "params": []}
    ).json()["results"]

    for row in found:
        platform.request("POST", "/query", user=user, json={"sql": statement.format(row["name"]), "params": []})

    assert stats(platform, user)["files"] == before["files"]
    assert stats(platform, user)["storage"] == before["storage"]
