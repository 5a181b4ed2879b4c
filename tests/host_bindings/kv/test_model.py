"""A namespace behaves like a dictionary, whatever is done to it, and also when it is closed and opened in between."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from host_bindings.kv.store import Entry, KVNamespace, ListedKey
from tests.host_bindings.storage.inputs import HOSTILE_KEYS, Clock

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
KEYS = st.sampled_from(HOSTILE_KEYS) | TEXT
VALUES = st.binary(max_size=40) | st.binary(min_size=200, max_size=400)
START = 1_000_000


class NamespaceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp())
        self.clock = Clock(START)
        self.namespace = KVNamespace(self.directory, clock=self.clock)
        self.model: dict[str, Entry] = {}

    def teardown(self) -> None:
        self.runner.run(self.namespace.close())
        self.runner.close()
        shutil.rmtree(self.directory)

    @initialize()
    def begin_empty(self) -> None:
        assert self.runner.run(self.namespace.list()).keys == []

    @rule(key=KEYS, value=VALUES, metadata=st.none() | st.just('"m"'), ttl=st.none() | st.integers(1, 20))
    def put(self, key: str, value: bytes, metadata: str | None, ttl: int | None) -> None:
        expiration = None if ttl is None else int(self.clock.now) + ttl
        self.runner.run(self.namespace.put(key, value, metadata=metadata, expiration=expiration))
        self.model[key] = Entry(value, metadata, expiration)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.runner.run(self.namespace.delete(key))
        self.model.pop(key, None)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        assert self.runner.run(self.namespace.get(key)) == self.live().get(key)

    @rule(prefix=st.just("") | TEXT | KEYS.map(lambda key: key[:2]), limit=st.integers(1, 5))
    def list_in_pages(self, prefix: str, limit: int) -> None:
        found: list[ListedKey] = []
        cursor: str | None = None
        while True:
            page = self.runner.run(self.namespace.list(prefix, limit=limit, cursor=cursor))
            found += page.keys
            cursor = page.cursor
            if cursor is None:
                break
            assert len(page.keys) == limit
        assert found == [
            ListedKey(key, entry.expiration, entry.metadata)
            for key, entry in sorted(self.live().items(), key=lambda item: item[0].encode())
            if key.startswith(prefix)
        ]

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.namespace.close())
        self.namespace = KVNamespace(self.directory, clock=self.clock)

    @invariant()
    def hold_everything(self) -> None:
        keys = list(self.model)[:20]
        found = self.runner.run(self.namespace.get_many(keys, bytes_max=10**9))
        assert found == {key: self.live().get(key) for key in keys}

    def live(self) -> dict[str, Entry]:
        return {
            key: entry
            for key, entry in self.model.items()
            if entry.expiration is None or self.clock.now < entry.expiration
        }


TestNamespace = NamespaceMachine.TestCase
TestNamespace.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
