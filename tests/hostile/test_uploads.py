"""Uploads that are broken, too much or oddly named: refused with a reason or whole, and never anything between."""

from __future__ import annotations

import gzip
import io
import random
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from urllib.parse import quote

import pytest
import zstandard

from tests.e2e.server import SCRIPTS, Reply, file, multipart
from tests.hostile.site import Site
from tests.runtime.artifacts.workers import wasm, worker

PARTS = 10
MUTATIONS = 4
MUTATIONS_IN_FULL = 2_000
"""Of each part."""
AT_ONCE = 4
UPLOAD_S_MAX = 90.0
"""No upload takes longer: the compiler has 60 s, and the machine may be busy."""


def check_rejected(reply: Reply, *statuses: int) -> None:
    """A clear answer in the management API's form, with nothing of the host's in it."""
    assert reply.status in (statuses or (400,)), reply.text
    envelope = reply.json()
    assert envelope["success"] is False
    (error,) = envelope["errors"]
    assert error["message"].isprintable()
    assert len(error["message"]) < 2_000
    for word in ("Traceback (most recent", "/tmp", "site-packages", "panicked"):
        assert word not in reply.text


@cache
def valid() -> bytes:
    return wasm(worker("fuzzed"))


def mutation(seed: int) -> bytes:
    """A truncated, bit-flipped, cut or doubled copy of a valid component."""
    chance, data = random.Random(seed), bytearray(valid())
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        position = chance.randrange(len(data))
        kind = chance.randrange(8)
        if kind < 4:
            data[position] ^= 1 << chance.randrange(8)
        elif kind == 4:
            data[position] = chance.choice((0, 0x7F, 0x80, 0xFF))
        elif kind == 5:
            del data[position:]
        elif kind == 6:
            del data[position : position + chance.randrange(1, 40)]
        else:
            data[position:position] = data[position : position + chance.randrange(1, 40)]
        if not data:
            break
    return bytes(data)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_broken_component_is_refused_or_deployed_whole(
    site: Site, full: bool, part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """`just torture` tries 20,000."""
    count = MUTATIONS_IN_FULL if full else MUTATIONS
    first = part * MUTATIONS_IN_FULL
    statuses: dict[int, int] = {}

    def attempt(seed: int) -> None:
        name = f"fuzzed-{seed % AT_ONCE}"
        before = version_of(site, name)
        started = time.monotonic()
        reply = site.server.deploy(name, mutation(seed), limits={"cpu_ms": 200, "wall_ms": 2_000})
        assert time.monotonic() - started < UPLOAD_S_MAX, seed
        statuses[reply.status] = statuses.get(reply.status, 0) + 1
        if reply.status == 200:
            assert version_of(site, name) == before + 1, seed
            # The status and the text of its answer are among the bytes that were changed.
            assert 200 <= site.call(name, "").status <= 599, seed
        else:
            check_rejected(reply)
            assert version_of(site, name) == before, seed

    def strike() -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for lane in [pool.submit(run, lane) for lane in range(AT_ONCE)]:
                lane.result()

    def run(lane: int) -> None:
        for seed in range(first + lane, first + count, AT_ONCE):
            attempt(seed)

    site.attack(strike)

    assert statuses.get(400, 0) >= count // 2
    assert not list((site.server.data / "uploads").iterdir())
    if full:
        with capsys.disabled():
            sys.stderr.write(f"uploads: {sum(statuses.values())} mutations, by status {statuses}\n")


def version_of(site: Site, name: str) -> int:
    reply = site.server.control("GET", f"{SCRIPTS}/{name}")
    return reply.json()["result"]["script"]["version_number"] if reply.status == 200 else 0


def zip_bomb() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("worker.wasm", bytes(50_000_000))
    return packed.getvalue()


@pytest.mark.parametrize(
    "make",
    [zip_bomb, lambda: gzip.compress(bytes(50_000_000)), lambda: zstandard.compress(bytes(50_000_000)), bytes],
    ids=["zip", "gzip", "zstd", "empty"],
)
def test_what_is_packed_is_not_unpacked(site: Site, make: Callable[[], bytes]) -> None:
    packed = make()

    check_rejected(site.attack(lambda: site.server.deploy("packed", packed)))


def test_a_compressed_request_is_refused(site: Site) -> None:
    body, kind = multipart([file("metadata", "", b"{}", "application/json")])
    headers = {"Content-Type": kind, "Content-Encoding": "gzip"}

    reply = site.attack(
        lambda: site.server.control("PUT", f"{SCRIPTS}/packed", headers=headers, body=gzip.compress(body))
    )

    check_rejected(reply, 415)


TOO_MANY = {
    "a hundred thousand functions": f"(component (core module {'(func)' * 100_001}))",
    "ten thousand imports": "(component " + " ".join(f'(import "i{n}" (func))' for n in range(10_000)) + ")",
    "ten thousand core modules": f"(component {'(core module)' * 10_000})",
    "a million exports": "(component (core module (func $f) "
    + " ".join(f'(export "{n}" (func $f))' for n in range(400_001))
    + "))",
    "components in components": "(component " * 100 + ")" * 100,
}


@pytest.mark.parametrize("text", TOO_MANY.values(), ids=TOO_MANY)
def test_too_many_parts_are_refused_before_they_are_compiled(site: Site, text: str) -> None:
    component = wasm(text)

    reply = site.attack(lambda: site.server.deploy("many", component))

    check_rejected(reply)
    assert "too many" in reply.text or "deep" in reply.text


def test_a_component_that_is_dear_to_compile_holds_nobody_up(site: Site) -> None:
    dear = "(func (result i32) (i32.const 1)" + "(i32.const 3) (i32.mul)" * 2_000 + ")"
    component = wasm(worker(modules=f"(core module {dear * 60})"))

    reply = site.attack(lambda: site.server.deploy("dear", component))

    if reply.status != 200:
        check_rejected(reply)


NAMES = ["a/b", "..", "../a", "a\0b", "\u202egnp", "a" * 5_000, "A", ".a", "a.", "a b", "%2e%2e", "\u00e9", "a\n"]


@pytest.mark.parametrize("name", NAMES)
def test_a_scripts_name_reaches_nothing_else(site: Site, name: str) -> None:
    body, kind = multipart(
        [file("metadata", "", b'{"main_module": "w"}', "application/json"), file("w", "w", valid(), None)]
    )

    reply = site.attack(
        lambda: site.server.control(
            "PUT", f"{SCRIPTS}/{quote(name, safe='')}", headers={"Content-Type": kind}, body=body
        )
    )

    check_rejected(reply, 400, 404, 405, 414)


def test_a_name_of_ten_thousand_characters_does_not_fit_into_a_request(site: Site) -> None:
    reply = site.attack(lambda: site.server.control("GET", f"{SCRIPTS}/{'a' * 10_000}"))

    assert reply.status == 400


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\\b", "\u202egnp.wasm", "n" * 10_000, "a;b"])
def test_a_parts_name_is_only_a_name(site: Site, name: str) -> None:
    parts = [file("metadata", "", b'{"main_module": "w"}', "application/json"), file("w", name, valid(), None)]
    body, kind = multipart([(head.encode("utf-8").decode("latin-1"), content) for head, content in parts])

    reply = site.attack(
        lambda: site.server.control("PUT", f"{SCRIPTS}/named", headers={"Content-Type": kind}, body=body)
    )

    if reply.status != 200:
        check_rejected(reply)
    assert not list((site.server.data / "uploads").iterdir())
