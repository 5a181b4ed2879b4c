"""Machine code is only what this host made, is made again when it is missing, and takes only so much room."""

from __future__ import annotations

import asyncio
import logging
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from runtime.artifacts import ArtifactMissing, ArtifactStore, ArtifactUnusable, UploadLimits, store
from runtime.artifacts.authenticity import Authenticator, load_key
from runtime.artifacts.hoisting import CODE_BYTES_MIN
from runtime.artifacts.packing import pack
from runtime.artifacts.upload import Manifest, StoredPart
from runtime.engine.compile import fingerprint
from tests.runtime.artifacts.conftest import Bench
from tests.runtime.artifacts.test_uploads import answer
from tests.runtime.artifacts.workers import sha256, worker

LIMITS = UploadLimits()
HOISTED = worker("hello", code_bytes=CODE_BYTES_MIN + 100)


async def parts_of(store: ArtifactStore, digest: str) -> dict[str, str]:
    """The names of the machine code of the artifact's component, and of the one module that it shares."""
    with await store.compiled(digest) as compiled:
        (module,) = compiled.modules.values()
        return {"component": compiled.component.parent.name, "module": module.parent.name}


async def answer_of(store: ArtifactStore, digest: str) -> str:
    """What the artifact answers, run by the machine code that the store gives out."""
    with await store.compiled(digest) as compiled:
        return await answer(compiled)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def forge(path: Path) -> None:
    """Other code, with a seal that was made with another key."""
    flip_a_bit(path)
    seal = Authenticator(bytes(32)).code(path, path.parent.name, fingerprint())
    path.with_name("code.hmac").write_bytes(seal)


def unseal(path: Path) -> None:
    path.with_name("code.hmac").unlink()


@pytest.mark.parametrize("tamper", [flip_a_bit, cut_in_half, empty, forge, unseal])
@pytest.mark.parametrize("part", ["component", "module"])
def test_tampered_machine_code_is_never_given_out(
    bench: Bench, caplog: pytest.LogCaptureFixture, tamper: Callable[[Path], None], part: str
) -> None:
    async def main() -> None:
        async with bench.store() as store:
            artifact = await store.add(bench.upload(HOISTED))
            name = (await parts_of(store, artifact.digest))[part]
            honest = bench.code(name).read_bytes()

        tamper(bench.code(name))

        async with bench.store() as store:
            with caplog.at_level(logging.ERROR), await store.compiled(artifact.digest) as compiled:
                assert bench.code(name).read_bytes() == honest
                assert await answer(compiled) == "hello"
        assert any(name in message and "not what this host made" in message for message in caplog.messages)

    asyncio.run(main())


def test_tampering_shows_while_the_process_runs_too(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            artifact = await store.add(bench.upload(HOISTED))
            code = bench.code((await parts_of(store, artifact.digest))["component"])
            honest = code.read_bytes()
            flip_a_bit(code)

            with await store.compiled(artifact.digest) as compiled:
                assert compiled.component.read_bytes() == honest

    asyncio.run(main())


def test_machine_code_of_one_artifact_does_not_pass_for_another(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            one, two = [await store.add(bench.upload(worker(text))) for text in ("one", "two")]
            for file in ("code", "code.hmac"):
                shutil.copy(bench.code(one.digest).with_name(file), bench.code(two.digest).with_name(file))

            assert await answer_of(store, two.digest) == "two"

    asyncio.run(main())


def test_authentic_machine_code_is_read_once_in_a_process(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with bench.store() as store:
            artifact = await store.add(bench.upload(HOISTED))
        read: list[str] = []
        code = Authenticator.code

        def watched(self: Authenticator, path: Path, name: str, engine: str) -> bytes:
            read.append(name)
            return code(self, path, name, engine)

        monkeypatch.setattr(Authenticator, "code", watched)
        async with bench.store() as store:
            for _ in range(3):
                (await store.compiled(artifact.digest)).release()
            assert len(read) == 2
            assert set(read) == bench.codes()

    asyncio.run(main())


def test_machine_code_that_is_gone_is_made_again(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            artifact = await store.add(bench.upload(HOISTED))
        shutil.rmtree(bench.directory / "machine-code")
        async with bench.store() as store:
            compiled = await asyncio.gather(*[store.compiled(artifact.digest) for _ in range(3)])
            assert await answer(compiled[0]) == "hello"
            for one in compiled:
                one.release()

    asyncio.run(main())


def test_machine_code_for_another_engine_is_not_used(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(store, "fingerprint", lambda: "of-an-older-engine")
        async with bench.store() as older:
            artifact = await older.add(bench.upload(HOISTED))
        monkeypatch.undo()
        async with bench.store() as newer:
            with await newer.compiled(artifact.digest) as compiled:
                assert compiled.component.parent.parent.name == fingerprint()
                assert await answer(compiled) == "hello"

    asyncio.run(main())


def test_nobody_else_may_read_or_enter(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            await store.add(bench.upload(HOISTED))
            modes = {
                path.relative_to(bench.directory): stat.S_IMODE(path.stat().st_mode)
                for path in bench.directory.rglob("*")
                if path.is_dir()
            }
            assert {stat.S_IMODE(bench.directory.stat().st_mode), *modes.values()} == {0o700}
            assert stat.S_IMODE((bench.directory / "machine-code.key").stat().st_mode) == 0o600

    asyncio.run(main())


def test_a_directory_that_others_may_enter_is_closed_to_them(bench: Bench) -> None:
    bench.directory.mkdir(mode=0o755)

    async def main() -> None:
        async with bench.store() as store:
            await store.add(bench.upload(worker()))
            assert stat.S_IMODE(bench.directory.stat().st_mode) == 0o700

    asyncio.run(main())


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = load_key(path)

    assert load_key(path) == key
    path.chmod(0o640)
    with pytest.raises(PermissionError, match="0600"):
        load_key(path)


def test_a_key_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    load_key(path)
    path.write_bytes(b"short")

    with pytest.raises(ValueError, match="32 bytes"):
        load_key(path)


def test_a_new_key_makes_all_machine_code_anew(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            artifact = await store.add(bench.upload(HOISTED))
        (bench.directory / "machine-code.key").unlink()
        async with bench.store() as store:
            assert await answer_of(store, artifact.digest) == "hello"

    asyncio.run(main())


def small_cache(bench: Bench, codes: int) -> UploadLimits:
    """Room for the machine code of so many small workers, whatever was just used."""
    size = max(path.stat().st_size for path in bench.directory.glob("machine-code/*/*/code"))
    return replace(LIMITS, code_cache_bytes=size * codes + size // 2, code_just_used_s=0)


def test_the_least_recently_used_machine_code_goes(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            one, two = [(await store.add(bench.upload(worker(text)))).digest for text in ("one", "two")]
        async with bench.store(small_cache(bench, 2)) as store:
            (await store.compiled(one)).release()
            three = (await store.add(bench.upload(worker("three")))).digest

            assert bench.codes() == {one, three}
            assert await answer_of(store, two) == "two"
            assert bench.codes() == {three, two}

    asyncio.run(main())


def test_machine_code_in_use_stays_whatever_the_bound(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            one = (await store.add(bench.upload(worker("one")))).digest
        async with bench.store(small_cache(bench, 0)) as store:
            compiled = await store.compiled(one)
            two = (await store.add(bench.upload(worker("two")))).digest
            assert bench.codes() == {one, two}

            compiled.release()
            three = (await store.add(bench.upload(worker("three")))).digest
            assert bench.codes() == {three}

    asyncio.run(main())


def packed_codes(bench: Bench) -> list[Path]:
    return sorted((bench.directory / "machine-code-packed").glob("*/*"))


def refuse_to_compile(*_: object) -> None:
    raise AssertionError("compiled, though there was packed machine code")


def test_small_machine_code_that_was_evicted_comes_back_without_being_made_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with bench.store() as store:
            one = (await store.add(bench.upload(worker("one")))).digest
        async with bench.store(small_cache(bench, 0)) as store:
            await store.add(bench.upload(worker("two")))
            assert [path.name for path in packed_codes(bench)] == [one]
            monkeypatch.setattr("runtime.artifacts.compiler.Compiler.component", refuse_to_compile)

            assert await answer_of(store, one) == "one"

    asyncio.run(main())


@pytest.mark.parametrize("damage", [flip_a_bit, cut_in_half, empty])
def test_packed_machine_code_that_is_not_what_this_host_made_is_made_again(
    bench: Bench, damage: Callable[[Path], None]
) -> None:
    async def main() -> None:
        async with bench.store() as store:
            one = (await store.add(bench.upload(worker("one")))).digest
        async with bench.store(small_cache(bench, 0)) as store:
            await store.add(bench.upload(worker("two")))
            damage(packed_codes(bench)[0])

            assert await answer_of(store, one) == "one"

    asyncio.run(main())


def test_machine_code_that_cannot_be_packed_is_evicted_all_the_same(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            one = (await store.add(bench.upload(worker("one")))).digest
        unseal(bench.code(one))
        async with bench.store(small_cache(bench, 0)) as store:
            two = (await store.add(bench.upload(worker("two")))).digest

            assert bench.codes() == {two}
            assert packed_codes(bench) == []

    asyncio.run(main())


def test_packed_machine_code_of_another_worker_is_made_again(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            one, two = [(await store.add(bench.upload(worker(text)))).digest for text in ("one", "two")]
        async with bench.store(small_cache(bench, 0)) as store:
            await store.add(bench.upload(worker("three")))
            paths = {path.name: path for path in packed_codes(bench)}
            shutil.copyfile(paths[two], paths[one])

            assert await answer_of(store, one) == "one"

    asyncio.run(main())


def test_packed_machine_code_goes_with_its_worker_and_with_its_engine(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            await store.add(bench.upload(worker("one")))
        async with bench.store(small_cache(bench, 0)) as store:
            two = (await store.add(bench.upload(worker("two")))).digest
            (packed,) = packed_codes(bench)
            other = packed.parent.with_name("0" * 16)
            other.mkdir()
            (other / packed.name).write_bytes(packed.read_bytes())
            await store.collect({two}, unused_s=0)
            assert packed_codes(bench) == [other / packed.name]
        async with bench.store() as store:
            (await store.compiled(two)).release()
            assert packed_codes(bench) == []

    asyncio.run(main())


def test_a_lease_that_is_forgotten_ends(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            one = (await store.add(bench.upload(worker("one")))).digest
        async with bench.store(small_cache(bench, 0)) as store:
            await store.compiled(one)
            two = (await store.add(bench.upload(worker("two")))).digest
            assert bench.codes() == {two}

    asyncio.run(main())


def test_machine_code_that_was_just_asked_for_stays(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            one = (await store.add(bench.upload(worker("one")))).digest
        async with bench.store(replace(small_cache(bench, 0), code_just_used_s=3600)) as store:
            (await store.compiled(one)).release()
            two = (await store.add(bench.upload(worker("two")))).digest
            assert bench.codes() == {one, two}

    asyncio.run(main())


def test_another_process_may_not_evict_what_is_in_use_here(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            one = (await store.add(bench.upload(worker("one")))).digest
            with await store.compiled(one):
                async with bench.other_store(small_cache(bench, 0)) as other:
                    two = (await other.add(bench.upload(worker("two")))).digest
                assert bench.codes() == {one, two}

    asyncio.run(main())


def test_what_was_never_stored_is_missing(bench: Bench) -> None:
    async def main() -> None:
        async with bench.store() as store:
            for digest in ("0" * 64, "..", "../modules", "a/b", "", "\0"):
                with pytest.raises(ArtifactMissing):
                    await store.compiled(digest)

    asyncio.run(main())


def test_a_component_that_the_contract_has_left_behind_is_unusable(bench: Bench) -> None:
    """A stored component is compared with the contract again when it is compiled again."""

    async def main() -> None:
        async with bench.store() as store:
            artifact = await store.add(bench.upload(worker()))
        replace_component(bench, artifact.digest, b"\0asm\x0d\0\x01\0")
        shutil.rmtree(bench.directory / "machine-code")
        async with bench.store() as store:
            with pytest.raises(ArtifactUnusable, match=r"no longer runs on this host.*does not export"):
                await store.compiled(artifact.digest)

    asyncio.run(main())


def replace_component(bench: Bench, digest: str, wasm: bytes) -> None:
    """Puts another component in a stored one's place, in good order but for its digest."""
    directory = bench.directory / "artifacts" / digest
    manifest = msgspec.json.decode((directory / "manifest.json").read_bytes(), type=Manifest)
    part = StoredPart(sha256(wasm), len(wasm))
    (directory / "manifest.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, component=part)))
    (directory / "component.wasm.zst").unlink()
    source = bench.upload(wasm)
    pack(source, directory / "component.wasm.zst")
