"""The dashboard in a real browser: Chromium, headless, on a running platform."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from guest_sdk.build import build
from host_bindings import WIT_DIRECTORY
from tests.components import GUESTS
from tests.e2e.server import TOKEN, Server, start

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ANSWER_MS = 60_000
HOSTILE = "<img src=x onerror=document.title='taken'>"
BINDINGS = [
    {"type": "kv_namespace", "name": "KV", "namespace_id": "cache"},
    {"type": "r2_bucket", "name": "R2", "bucket_name": "files"},
    {"type": "d1", "name": "DB", "id": "db"},
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        reason = "Chromium is not installed; `apt-get install chromium` does it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """On a copy of the demo's data, since what workers have in common is compiled there."""
    component = build(GUESTS / "rpc_worker", wit_directory=WIT_DIRECTORY).read_bytes()
    directory = shutil.copytree(deployed, tmp_path_factory.mktemp("dashboard") / "data")
    with start(directory) as server:
        for _ in range(2):
            reply = server.deploy("acme", component, BINDINGS, annotations={"workers/message": HOSTILE})
            assert reply.status == 200, reply.text
        yield server


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The overview, after a login through the form. Nothing may be blocked by the policy, be missing, or fail in a
    script."""
    context = browser.new_context(base_url=f"http://127.0.0.1:{server.admin_port}")
    page = context.new_page()
    page.set_default_timeout(ANSWER_MS)
    expect.set_options(timeout=ANSWER_MS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto("/dashboard")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Tenants")).to_be_visible()
    yield page
    context.close()
    assert complaints == []


def test_an_operator_watches_a_tenant_rolls_back_and_logs_out(page: Page, server: Server) -> None:
    page.get_by_role("link", name="acme").click()
    expect(page.get_by_role("heading", name="acme version 2")).to_be_visible()
    expect(page.get_by_text(HOSTILE).first).to_be_visible()

    expect(page.locator("#tail output")).to_have_text("live")
    assert server.request("GET", f"/seen?{quote(HOSTILE)}", user="acme").status == 200
    expect(page.locator("#events")).to_contain_text("GET /seen")
    expect(page.locator(".tiles")).to_contain_text("1 requests")
    assert page.locator("#events img").count() == 0
    assert page.title() == "acme · Cloister"

    page.get_by_text("Roll back …").click()
    page.get_by_role("button", name="Deploy version 1").click()
    expect(page.get_by_role("heading", name="acme version 1")).to_be_visible()

    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.goto("/dashboard/tenants/production/acme")
    expect(page.get_by_label("Token")).to_be_visible()


def test_an_operator_looks_through_what_a_tenant_stores(page: Page, server: Server) -> None:
    page.goto("/dashboard/tenants/production/acme")
    page.locator("tr", has_text="d1").get_by_role("link", name="Browse").click()
    for sql, seen in (
        ("CREATE TABLE people (name TEXT)", "people"),
        (f"INSERT INTO people VALUES ('{HOSTILE.replace(chr(39), chr(39) * 2)}')", "1 written"),
        ("SELECT * FROM people", HOSTILE),
    ):
        page.get_by_label("One statement").fill(sql)
        page.get_by_role("button", name="Run").click()
        expect(page.locator("main")).to_contain_text(seen)
    assert page.locator("td img").count() == 0

    page.goto("/dashboard/tenants/production/acme/kv/KV")
    expect(page.get_by_text("No keys.")).to_be_visible()
    page.goto("/dashboard/tenants/production/acme/r2/R2")
    page.get_by_label("Keys beginning with").fill("a/")
    page.get_by_role("button", name="Find").click()
    page.wait_for_url("**prefix=a%2F")
    expect(page.get_by_text("No objects.")).to_be_visible()


def test_a_worker_does_not_get_the_session(page: Page, server: Server) -> None:
    """The tenants' port of the same host is the same site to a browser, which sends the cookie there too."""
    page.set_extra_http_headers({"X-User-ID": "acme"})

    answer = page.goto(f"http://127.0.0.1:{server.port}/dashboard/headers")

    assert answer is not None and answer.status == 200
    assert "cloister_dashboard" in answer.request.all_headers()["cookie"]
    seen = answer.json()["headers"]
    assert seen["x-user-id"] == "acme"
    assert "cloister_dashboard" not in str(seen)
