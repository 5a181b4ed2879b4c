"""A bucket behaves like a dictionary, whatever is done to it, and also when it is closed and opened in between."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from host_bindings.body import Payload
from host_bindings.r2.objects import Attributes, Conditions, Etag, Range
from host_bindings.r2.store import Bucket
from tests.host_bindings.r2.buckets import Pieces, contents_kept, read
from tests.host_bindings.storage.inputs import HOSTILE_KEYS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.text("a/b", max_size=6)
KEYS = st.sampled_from(HOSTILE_KEYS) | TEXT
VALUES = st.binary(max_size=30)


class BucketMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp())
        self.bucket = Bucket(self.directory)
        self.model: dict[str, bytes] = {}

    def teardown(self) -> None:
        self.runner.run(self.bucket.close())
        self.runner.close()
        assert contents_kept(self.directory) == len(self.model)
        shutil.rmtree(self.directory)

    @rule(key=KEYS, value=VALUES, stream=st.booleans())
    def put(self, key: str, value: bytes, stream: bool) -> None:
        content: Payload = Pieces([value[:5], value[5:]] if value[5:] else [value]) if stream else value
        attributes = Attributes(custom_metadata_json=f'{{"size": "{len(value)}"}}')
        stored = self.runner.run(self.bucket.put(key, content, attributes=attributes))
        assert stored is not None and stored.etag == hashlib.md5(value).hexdigest()
        self.model[key] = value

    @rule(key=KEYS, value=VALUES)
    def create_only(self, key: str, value: bytes) -> None:
        conditions = Conditions(etag_does_not_match=(Etag(None),))
        stored = self.runner.run(self.bucket.put(key, value, conditions=conditions))
        assert (stored is None) == (key in self.model)
        self.model.setdefault(key, value)

    @rule(key=KEYS, value=VALUES, expected=VALUES)
    def replace_only(self, key: str, value: bytes, expected: bytes) -> None:
        conditions = Conditions(etag_matches=(Etag(hashlib.md5(expected).hexdigest()),))
        stored = self.runner.run(self.bucket.put(key, value, conditions=conditions))
        assert (stored is not None) == (self.model.get(key) == expected)
        if stored is not None:
            self.model[key] = value

    @rule(keys=st.lists(KEYS, max_size=4))
    def delete(self, keys: list[str]) -> None:
        self.runner.run(self.bucket.delete(keys))
        for key in keys:
            self.model.pop(key, None)

    @rule(key=KEYS, offset=st.integers(0, 40), length=st.integers(1, 40))
    def get(self, key: str, offset: int, length: int) -> None:
        value = self.model.get(key)
        assert self.runner.run(read(self.bucket, key)) == value
        if value is not None and offset < len(value):
            part = self.runner.run(read(self.bucket, key, Range(offset, length)))
            assert part == value[offset : offset + length]

    @rule(
        prefix=st.just("") | TEXT,
        delimiter=st.sampled_from(["", "/", "a", "ab", "😀"]),
        start_after=st.none() | KEYS,
        limit=st.integers(1, 4),
    )
    def list_in_pages(self, prefix: str, delimiter: str, start_after: str | None, limit: int) -> None:
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = self.runner.run(
                self.bucket.list(
                    prefix=prefix, delimiter=delimiter, start_after=start_after, limit=limit, cursor=cursor
                )
            )
            found += sorted([each.key for each in page.objects] + page.prefixes, key=str.encode)
            cursor = page.cursor
            if cursor is None:
                break
            assert len(page.objects) + len(page.prefixes) == limit
        assert found == self.expected(prefix, delimiter, start_after)

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.bucket.close())
        self.bucket = Bucket(self.directory)

    @invariant()
    def hold_every_key(self) -> None:
        page = self.runner.run(self.bucket.list(include=("customMetadata",)))
        assert [(each.key, each.size) for each in page.objects] == [
            (key, len(self.model[key])) for key in sorted(self.model, key=str.encode)
        ]
        assert all(each.custom_metadata_json in ("{}", f'{{"size": "{each.size}"}}') for each in page.objects)

    def expected(self, prefix: str, delimiter: str, start_after: str | None) -> list[str]:
        found: list[str] = []
        for key in sorted(self.model, key=str.encode):
            if not key.startswith(prefix) or (start_after is not None and key.encode() <= start_after.encode()):
                continue
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            entry = key if at < 0 else key[: at + len(delimiter)]
            if at < 0 or entry not in found:
                found.append(entry)
        return found


TestBucket = BucketMachine.TestCase
TestBucket.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
