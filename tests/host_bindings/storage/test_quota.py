"""What a tenant's stores hold together stays within the limit, however they share it."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from host_bindings.allowance import R2_STORAGE
from host_bindings.contract import LimitReached
from host_bindings.r2 import metadata
from host_bindings.storage.quota import Quota

LIMIT = 1_000_000


class Store:
    """A database that says in one row what it holds."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        (directory / name).mkdir()
        self.connection = apsw.Connection(str(directory / name / "store.sqlite"))
        self.connection.pragma("synchronous", 0)
        self.connection.execute("CREATE TABLE usage (bytes INTEGER); INSERT INTO usage VALUES (0)")

    def write(self, quota: Quota, size: int) -> None:
        quota.take(self.name, size, self.connection)
        self.connection.execute("UPDATE usage SET bytes = bytes + ?", (size,))

    def empty(self) -> None:
        self.connection.execute("UPDATE usage SET bytes = 0")


def quota_of(directory: Path) -> Quota:
    return Quota(R2_STORAGE, directory, "store.sqlite", lambda: LIMIT, metadata.used_bytes)


def fill(store: Store, quota: Quota, size: int = 10_000) -> int:
    """Writes until there is no room; how much that was."""
    written = 0
    with pytest.raises(LimitReached, match="storage is full"):
        while True:
            store.write(quota, size)
            written += size
    return written


def test_one_store_gets_all_of_the_limit_and_no_more(tmp_path: Path) -> None:
    assert fill(Store(tmp_path, "a"), quota_of(tmp_path)) == LIMIT


def test_several_stores_share_the_limit(tmp_path: Path) -> None:
    stores, quota = [Store(tmp_path, name) for name in "abc"], quota_of(tmp_path)
    for _ in range(10):
        for store in stores:
            store.write(quota, 10_000)

    assert 300_000 + fill(stores[0], quota) <= LIMIT
    with pytest.raises(LimitReached):
        stores[1].write(quota, 700_000)


def test_what_was_there_before_counts(tmp_path: Path) -> None:
    first, second = Store(tmp_path, "a"), Store(tmp_path, "b")
    fill(first, quota_of(tmp_path))

    with pytest.raises(LimitReached):
        second.write(quota_of(tmp_path), 10_000)


def test_room_that_another_store_has_made_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, quota = Store(tmp_path, "a"), Store(tmp_path, "b"), quota_of(tmp_path)
    fill(first, quota)
    with pytest.raises(LimitReached):
        second.write(quota, 500_000)

    first.empty()
    monkeypatch.setattr(quota, "_looked_at", 0.0)

    second.write(quota, 500_000)


def test_what_comes_in_at_once_keeps_to_the_limit_too(tmp_path: Path) -> None:
    quota = quota_of(tmp_path)

    with quota.receiving(600_000):
        with pytest.raises(LimitReached), quota.receiving(600_000):
            pass
        with quota.receiving(400_000):
            pass
    with quota.receiving(LIMIT):
        pass
