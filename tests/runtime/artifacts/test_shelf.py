"""Artifacts at rest: each part once, whole or not at all, and gone when nobody needs it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.artifacts import ArtifactMissing, ArtifactUnusable
from runtime.artifacts.hoisting import CODE_BYTES_MIN
from runtime.artifacts.packing import Damaged, pack, unpack
from tests.runtime.artifacts.conftest import Bench
from tests.runtime.artifacts.test_uploads import answer
from tests.runtime.artifacts.workers import library, sha256, worker

MUCH_CODE = CODE_BYTES_MIN + 100


def stored(bench: Bench, kind: str) -> set[str]:
    return {path.name.removesuffix(".wasm.zst") for path in (bench.directory / kind).iterdir()}


def test_what_workers_have_in_common_is_stored_once(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            for text in ("one", "two", "three", "one"):
                await store.add(bench.upload(worker(text, code_bytes=MUCH_CODE)))
            assert len(stored(bench, "artifacts")) == 3
            assert len(stored(bench, "modules")) == 1

    asyncio.run(main())


def test_collection_deletes_what_is_not_kept_and_nothing_else(bench: Bench) -> None:
    other_library = worker("three", code_bytes=MUCH_CODE).replace("name one", "name two")

    async def main() -> None:
        async with bench.store() as store:
            one = await store.add(bench.upload(worker("one", code_bytes=MUCH_CODE)))
            two = await store.add(bench.upload(worker("two", code_bytes=MUCH_CODE)))
            common = stored(bench, "modules")
            three = await store.add(bench.upload(other_library))

            await store.collect({one.digest}, unused_s=0)

            assert stored(bench, "artifacts") == {one.digest}
            assert stored(bench, "modules") == common
            assert len(bench.codes() - common) == 1
            for gone in (two, three):
                with pytest.raises(ArtifactMissing):
                    await store.compiled(gone.digest)
            with await store.compiled(one.digest) as compiled:
                assert await answer(compiled) == "one"

    asyncio.run(main())


def test_collection_spares_what_was_just_uploaded(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            artifact = await store.add(bench.upload(worker(code_bytes=MUCH_CODE)))
            before = bench.files()

            await store.collect(())

            assert bench.files() == before
            await store.collect((), unused_s=0)
            assert not stored(bench, "artifacts") | stored(bench, "modules") | bench.codes()
            assert await store.add(bench.upload(worker(code_bytes=MUCH_CODE))) == artifact

    asyncio.run(main())


def test_collection_during_uploads_takes_nothing_from_them(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            uploads = [bench.upload(worker(text, code_bytes=MUCH_CODE)) for text in ("one", "two")]
            adding = asyncio.gather(*[store.add(upload) for upload in uploads])
            while not adding.done():
                await store.collect(())
            for artifact in await adding:
                (await store.compiled(artifact.digest)).release()

    asyncio.run(main())


def test_leftovers_of_a_crash_are_swept_away(bench: Bench) -> None:
    leftover = bench.directory / "work" / "of-a-process-that-is-gone"
    leftover.mkdir(parents=True)
    (leftover / "upload").write_bytes(b"half")

    async def main() -> None:
        async with bench.store() as store:
            await store.add(bench.upload(worker()))
            assert not leftover.exists()

    asyncio.run(main())


def test_what_another_process_works_on_is_not_swept_away(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as one:
            await one.add(bench.upload(worker("one")))
            async with bench.other_store() as two:
                await two.add(bench.upload(worker("two")))
            await one.add(bench.upload(worker("three")))

    asyncio.run(main())


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("part", ["artifacts/*/component.wasm.zst", "modules/*.wasm.zst", "artifacts/*/manifest.json"])
@pytest.mark.parametrize("harm", [damage, Path.unlink])
def test_a_damaged_artifact_is_told_and_healed_by_the_next_upload(
    bench: Bench, part: str, harm: Callable[[Path], None]
) -> None:
    async def main() -> None:
        async with bench.store() as store:
            artifact = await store.add(bench.upload(worker(code_bytes=MUCH_CODE)))
        (path,) = bench.directory.glob(part)
        harm(path)
        shutil.rmtree(bench.directory / "machine-code")

        async with bench.store() as store:
            with pytest.raises((ArtifactUnusable, ArtifactMissing)) as caught:
                await store.compiled(artifact.digest)
            assert str(bench.directory) not in caught.value.message

            assert await store.add(bench.upload(worker(code_bytes=MUCH_CODE))) == artifact
            with await store.compiled(artifact.digest) as compiled:
                assert await answer(compiled) == "hello"

    asyncio.run(main())


def test_modules_stay_where_an_artifact_cannot_be_read(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            one = await store.add(bench.upload(worker("one", code_bytes=MUCH_CODE)))
            modules = stored(bench, "modules")
            (bench.directory / "artifacts" / one.digest / "manifest.json").write_bytes(b"{")

            await store.collect({one.digest}, unused_s=0)

            assert stored(bench, "modules") == modules

    asyncio.run(main())


def test_unpacking_stops_at_the_size_that_was_stored(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    bomb.write_bytes(bytes(100_000_000))
    pack(bomb, tmp_path / "packed")

    with pytest.raises(Damaged):
        unpack(tmp_path / "packed", tmp_path / "unpacked", 1_000_000, sha256(bytes(1_000_000)))

    assert (tmp_path / "packed").stat().st_size < 20_000
    assert (tmp_path / "unpacked").stat().st_size <= 1_000_000


def test_a_store_that_was_closed_can_be_used_again(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            artifact = await store.add(bench.upload(worker(modules=library("two").replace("$library", ""))))
            await store.close()
            (await store.compiled(artifact.digest)).release()

    asyncio.run(main())
