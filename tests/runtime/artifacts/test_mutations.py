"""Broken components by the hundred: refused or working, never a crash and never a half-made artifact."""

from __future__ import annotations

import asyncio
import io
import random
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.artifacts import ArtifactStore, RejectedUpload, UploadLimits
from runtime.artifacts.component import read_outline
from runtime.artifacts.hoisting import CODE_BYTES_MIN, find_hoisted, write_rewritten
from tests.runtime.artifacts.conftest import Bench
from tests.runtime.artifacts.workers import wasm, worker

STORED_MUTATIONS = 60
PARSED_MUTATIONS = 700


@cache
def valid() -> bytes:
    return wasm(worker())


@cache
def large() -> bytes:
    return wasm(worker(code_bytes=CODE_BYTES_MIN + 100))


@st.composite
def mutations(draw: st.DrawFn, source: bytes) -> bytes:
    data = bytearray(source)
    interesting = [n for n in range(len(data)) if data[n : n + 4] != b"\x01\x01\x01\x01"]  # not within the padding
    for _ in range(draw(st.integers(0, 4))):
        position = draw(st.sampled_from(interesting))
        data[position] = draw(st.one_of(st.integers(0, 255), st.just(data[position] ^ 1 << draw(st.integers(0, 7)))))
    if draw(st.booleans()):
        start = draw(st.sampled_from(interesting))
        del data[start : start + draw(st.integers(0, 20))]
    if draw(st.booleans()):
        del data[draw(st.sampled_from(interesting)) :]
    return bytes(data)


@settings(max_examples=PARSED_MUTATIONS, deadline=None)
@given(data=st.one_of(st.binary(max_size=64), mutations(valid()), mutations(large())))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    limits = UploadLimits()
    try:
        outline = read_outline(data, limits)
    except RejectedUpload as error:
        assert error.message
        return
    rewritten = io.BytesIO()
    hoisted = find_hoisted(data, outline)
    write_rewritten(data, hoisted, rewritten)
    assert hoisted or rewritten.getvalue() == data


def mutation(seed: int) -> bytes:
    chance = random.Random(seed)
    data = bytearray(large() if seed % 10 == 0 else valid())
    if seed % 4 == 0:
        return bytes(data[: chance.randrange(len(data))])
    for _ in range(chance.choice((1, 1, 2, 8))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def test_a_broken_component_is_stored_whole_or_not_at_all(bench: Bench) -> None:
    async def attempt(store: ArtifactStore, upload: Path) -> str | None:
        try:
            artifact = await store.add(upload)
        except RejectedUpload as error:
            assert 400 <= error.status < 500
            assert error.message.isascii() and error.message.isprintable()
            return None
        (await store.compiled(artifact.digest)).release()
        return artifact.digest

    async def main() -> None:
        async with bench.store() as store:
            accepted: set[str] = set()
            for first in range(0, STORED_MUTATIONS, 4):
                uploads = [bench.upload(mutation(seed)) for seed in range(first, first + 4)]
                results = await asyncio.gather(*[attempt(store, upload) for upload in uploads])
                accepted |= {digest for digest in results if digest is not None}
            whole = await store.add(bench.upload(valid()))
            assert {path.name for path in (bench.directory / "artifacts").iterdir()} == accepted | {whole.digest}

    asyncio.run(main())


@pytest.mark.parametrize("repeats", [1, 3])
def test_appended_bytes_are_not_ignored(repeats: int) -> None:
    with pytest.raises(RejectedUpload):
        read_outline(valid() + b"\x0d" * repeats, UploadLimits())
