"""What the pages show: versions, what is stored, figures, the live log; and that hostile text stays text."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from html import unescape
from urllib.parse import quote

import pytest
from aiohttp import ClientResponse

from host_bindings.scope import Scope
from runtime.dashboard.figures import percentile
from runtime.dashboard.pages import show_bytes, show_ms
from runtime.dashboard.storage import HEX_BYTES_MAX, SHOWN_BYTES_MAX, preview
from runtime.telemetry.meters import BUCKETS, TenantKey
from runtime.telemetry.tail import CalledEvent
from tests.runtime.control.service import SCRIPTS
from tests.runtime.dashboard.conftest import BINDINGS, RunDashboard, World

ACME = "/dashboard/tenants/production/acme"
HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>/\u202e{{ 7*7 }}"
KEY = TenantKey("production", "acme")


def acme(world: World) -> Scope:
    """What the tenant's worker may reach."""
    version = world.control.registry.find("production", "acme")
    assert version is not None
    return world.control.resources.scope(version.tenant, version.bindings)


def test_an_earlier_version_is_deployed_again(run_dashboard: RunDashboard, component: bytes) -> None:
    async def test(world: World) -> None:
        assert (await world.control.put("acme", component, {"bindings": []})).status == 200
        versions = (await world.control.call("GET", f"{SCRIPTS}/acme/versions")).result["items"]
        await world.browser.log_in()
        assert "version 2</span>" in (await world.browser.get(ACME)).text

        answer = await world.browser.post(f"{ACME}/deploy", {"version": versions[-1]["id"]})

        assert (answer.status, answer.headers["Location"]) == (303, ACME)
        assert "version 1</span>" in (await world.browser.get(ACME)).text
        deployment = (await world.control.call("GET", f"{SCRIPTS}/acme/deployments")).result["deployments"][0]
        assert deployment["source"] == "rollback"
        assert deployment["versions"] == [{"version_id": versions[-1]["id"], "percentage": 100.0}]

    run_dashboard(test)


def test_only_a_version_of_the_tenants_is_deployed(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        other = (await world.control.call("GET", f"{SCRIPTS}/other/versions")).result["items"][0]["id"]
        await world.browser.log_in()
        await world.browser.get(ACME)

        for id in ("", "nothing", HOSTILE, other):
            answer = await world.browser.post(f"{ACME}/deploy", {"version": id})
            assert answer.status in (400, 404)
            assert "<script>alert" not in answer.text

    run_dashboard(test)


def test_what_a_tenant_names_and_stores_is_only_ever_text(run_dashboard: RunDashboard, component: bytes) -> None:
    async def test(world: World) -> None:
        bindings = [
            *BINDINGS,
            {"type": "plain_text", "name": "A", "text": HOSTILE},
            {"type": "json", "name": "B", "json": {"a": HOSTILE}},
            {"type": "secret_text", "name": "SECRET", "text": "never-to-be-seen"},
        ]
        metadata = {"bindings": bindings, "annotations": {"workers/message": HOSTILE}}
        assert (await world.control.put("acme", component, metadata)).status == 200
        scope = acme(world)
        await scope.kv("KV").put(HOSTILE, HOSTILE.encode(), metadata=json.dumps(HOSTILE))
        await scope.r2("R2").put(HOSTILE, HOSTILE.encode())
        await scope.d1("DB").exec(f"CREATE TABLE `{HOSTILE}` (a)")
        await world.browser.log_in()
        key, folder = quote(HOSTILE, safe=""), quote(HOSTILE.rpartition("/")[0] + "/", safe="")

        pages = [
            await world.browser.get(path)
            for path in (
                ACME,
                f"{ACME}/kv/KV",
                f"{ACME}/kv/KV?prefix={key}",
                f"{ACME}/kv/KV/value?key={key}",
                f"{ACME}/r2/R2?prefix={folder}",
                f"{ACME}/r2/R2/object?key={key}",
                f"{ACME}/d1/DB",
            )
        ]
        quoted = HOSTILE.replace("'", "''")
        sql = {"sql": f"SELECT '{quoted}' AS `{HOSTILE}`"}
        pages.append(await world.browser.post(f"{ACME}/d1/DB", sql))
        missing = [
            await world.browser.get(f"{ACME}/kv/{key}"),
            await world.browser.get(f"/dashboard/tenants/{key}/{key}"),
            await world.browser.get(f"/dashboard/?q={key}"),
        ]

        for page in [*pages, *missing]:
            assert "<script>alert" not in page.text and "<img" not in page.text
            assert "never-to-be-seen" not in page.text
        for page in pages:
            assert page.status == 200, page.text
            assert HOSTILE in unescape(page.text), page.text

    run_dashboard(test)


def test_keys_and_values_are_listed_by_page(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        store = acme(world).kv("KV")
        await asyncio.gather(*(store.put(f"key-{number:03}", b"v") for number in range(101)))
        await world.browser.log_in()

        first = await world.browser.get(f"{ACME}/kv/KV")
        assert "key-099" in first.text and "key-100" not in first.text
        (link,) = [part.split('"')[0] for part in first.text.split('href="') if "cursor=" in part]
        second = await world.browser.get(unescape(link))
        assert "key-100" in second.text and "key-099" not in second.text
        assert (await world.browser.get(f"{ACME}/kv/KV/value?key=missing")).status == 404

    run_dashboard(test)


def test_an_object_is_shown_by_folder_and_downloaded_as_a_file(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        await acme(world).r2("R2").put("photos/ä page.html", b"<h1>hello</h1>")
        await world.browser.log_in()

        assert "photos/</bdi>" in (await world.browser.get(f"{ACME}/r2/R2")).text
        assert "ä page.html</bdi>" in (await world.browser.get(f"{ACME}/r2/R2?prefix=photos/")).text
        assert "&lt;h1&gt;hello" in (await world.browser.get(f"{ACME}/r2/R2/object?key=photos/ä page.html")).text
        download = await world.browser.get(f"{ACME}/r2/R2/download?key=photos/ä page.html")
        assert download.text == "<h1>hello</h1>"
        assert download.headers["Content-Type"] == "application/octet-stream"
        assert download.headers["Content-Disposition"] == "attachment; filename*=UTF-8''%C3%A4%20page.html"
        assert "sandbox" in download.headers["Content-Security-Policy"]

    run_dashboard(test)


def test_one_statement_is_run(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        await world.browser.log_in()
        await world.browser.get(f"{ACME}/d1/DB")

        for sql in ("CREATE TABLE t (a, b)", "INSERT INTO t VALUES (NULL, x'00ff')"):
            assert (await world.browser.post(f"{ACME}/d1/DB", {"sql": sql})).status == 200
        found = await world.browser.post(f"{ACME}/d1/DB", {"sql": "SELECT * FROM t"})
        assert "NULL</span>" in found.text and "X&#39;00ff&#39;" in found.text
        for odd in ("char(0)", "9e999", "printf('%.*c', 5000, 'x')"):
            assert (await world.browser.post(f"{ACME}/d1/DB", {"sql": f"SELECT {odd}"})).status == 200
        for sql, message in (
            ("SELECT 1; DROP TABLE t", "There are 2 statements"),
            ("", "There are 0 statements"),
            ("SELECT CAST(x'ff' AS TEXT)", "not valid UTF-8"),
            ("SELECT * FROM missing", "no such table: missing"),
            ("ATTACH 'x' AS y", "not authorized"),
        ):
            answer = await world.browser.post(f"{ACME}/d1/DB", {"sql": sql})
            assert answer.status == 400
            assert message in answer.text
        assert ">t</bdi>" in (await world.browser.get(f"{ACME}/d1/DB")).text

    run_dashboard(test)


def test_the_live_log_is_the_tenants_and_ends_with_the_session(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        id, value = await world.token("production/acme", "read")
        await world.browser.log_in(value)
        tails = world.control.observatory.tails
        async with world.browser.http.get(f"{ACME}/tail", allow_redirects=False) as stream:
            assert stream.headers["Content-Type"] == "text/event-stream"
            for key in (TenantKey("production", "other"), KEY):
                tails.logged(key, "request", "info", f"{HOSTILE}\n\ndata: {key.script}")
                called = CalledEvent(
                    "1", "request", "ok", "GET", "http://x/", "", "", 200, None, 1_000_000, time.perf_counter_ns()
                )
                tails.called(key, called)

            lines = [line async for line in _lines(stream, 1)]
            event = json.loads(lines[0])
            assert event["scriptName"] == "acme"
            assert event["logs"][0]["message"] == [f"{HOSTILE}\n\ndata: acme"]

            assert (await world.control.call("DELETE", f"/client/v4/user/tokens/{id}")).status == 200
            async with asyncio.timeout(30):
                assert [line async for line in _lines(stream, 1)] == []
        assert await tails.of(KEY) == []

    run_dashboard(test)


async def _lines(stream: ClientResponse, wanted: int) -> AsyncIterator[bytes]:
    """The data of the next events, until the stream ends."""
    async for line in stream.content:
        if line.startswith(b"data: "):
            yield line.removeprefix(b"data: ")
            wanted -= 1
            if not wanted:
                return


def test_figures_are_those_of_the_ledger(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        await world.browser.log_in()
        await world.browser.get(ACME)
        meter = world.control.observatory.meters.of(*KEY)
        for _ in range(99):
            meter.request(200, 4.0, 0, 10)
            meter.call("ok", 5_000_000, 1, False)
        meter.request(500, 400.0, 0, 10)
        meter.call("exception", 5_000_000, 1, False)

        page = (await world.browser.get(ACME)).text

        text = " ".join(unescape(page).split())
        assert '<dt>Errors</dt><dd class="bad">1.0 %</dd>' in text
        assert "<dt>p50</dt><dd>3.8 ms</dd>" in text
        assert "<dt>Today</dt><dd>100 <small>" in text
        assert "<dt>Requests/s</dt><dd>…" not in text
        row = " ".join((await world.browser.get("/dashboard/?q=acm")).text.split())
        assert '<td class="group">100</td>' in row and "500 ms</td>" in row

    run_dashboard(test)


def test_percentiles_are_those_of_a_histogram() -> None:
    buckets = [0.0] * BUCKETS
    assert percentile(buckets, 0.5) is None

    buckets[0], buckets[2] = 50, 50
    assert percentile(buckets, 0.5) == 1.0
    assert percentile(buckets, 0.75) == 3.75
    assert percentile(buckets, 1) == 5.0

    buckets[-1] = 1000
    assert percentile(buckets, 0.99) == 30_000


def test_figures_are_written_for_people() -> None:
    assert [show_bytes(number) for number in (0, 1023, 1536, 5 * 2**30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
    assert [show_ms(number) for number in (None, 0.25, 99.4, 12_345)] == ["–", "0.2 ms", "99 ms", "12.3 s"]


@pytest.mark.parametrize(
    ("content", "text", "is_text", "is_whole"),
    [
        (b"", "", True, True),
        ("ä".encode(), "ä", True, True),
        (b"a" * (SHOWN_BYTES_MAX - 1) + "ä".encode(), "a" * (SHOWN_BYTES_MAX - 1), True, False),
        (b"\x00\xff\x10", "00ff 10", False, True),
        (b"a\0", "6100", False, True),
    ],
)
def test_a_value_is_shown_as_text_or_as_digits(content: bytes, text: str, is_text: bool, is_whole: bool) -> None:
    found = preview(content, len(content))

    assert (found.text, found.is_text, found.is_whole) == (text, is_text, is_whole)


def test_of_a_large_value_the_beginning_is_shown() -> None:
    found = preview(b"\xff" * SHOWN_BYTES_MAX, 10 * SHOWN_BYTES_MAX)

    assert not found.is_whole
    assert found.text.replace(" ", "").replace("\n", "") == "ff" * HEX_BYTES_MAX
