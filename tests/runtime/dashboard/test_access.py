"""Who gets into the dashboard, what a session may do, and what binds the browser."""

from __future__ import annotations

from itertools import product

from runtime.control.access import PERMISSIONS, Access
from runtime.dashboard.sessions import SESSION_S, SESSIONS_MAX, Sessions
from tests.runtime.control.service import NAMESPACES, TOKEN
from tests.runtime.dashboard.conftest import RunDashboard, World

ACME = "/dashboard/tenants/production/acme"
OTHER = "/dashboard/tenants/production/other"
PAGES = ["/dashboard/", ACME, f"{ACME}/tail", f"{ACME}/kv/KV", f"{ACME}/r2/R2", f"{ACME}/d1/DB", f"{ACME}/nothing"]
FORMS = ["/dashboard/logout", f"{ACME}/deploy", f"{ACME}/d1/DB"]


def test_without_a_session_every_page_leads_to_the_login(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        for path in PAGES[:-1]:
            answer = await world.browser.get(path)
            assert (answer.status, answer.headers["Location"]) == (303, "/dashboard/login")
            assert "acme" not in answer.text

    run_dashboard(test)


def test_a_bearer_token_is_no_session_and_a_session_no_bearer_token(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        assert (await world.browser.get("/dashboard/", Authorization=f"Bearer {TOKEN}")).status == 303

        await world.browser.log_in()

        assert (await world.browser.get("/dashboard/")).status == 200
        assert (await world.browser.get(NAMESPACES)).status == 401
        assert (await world.browser.get("/dashboard")).headers["Location"] == "/dashboard/"
        assert (await world.browser.get("/dashboard/../client/v4/accounts")).status in (401, 404)

    run_dashboard(test)


def test_the_admin_token_opens_a_session(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        answer = await world.browser.log_in()

        assert (answer.status, answer.headers["Location"]) == (303, "/dashboard/")
        cookie = next(each for each in answer.headers.getall("Set-Cookie") if each.startswith("cloister_dashboard="))
        attributes = {part.strip().lower() for part in cookie.split(";")}
        assert {"httponly", "samesite=strict", "path=/dashboard/", f"max-age={SESSION_S:.0f}"} <= attributes
        assert TOKEN not in cookie
        page = await world.browser.get("/dashboard/")
        assert page.status == 200
        assert ">acme</a>" in page.text and ">other</a>" in page.text
        assert TOKEN not in page.text

    run_dashboard(test)


def test_a_wrong_token_opens_none(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        for token in ("", "wrong", TOKEN[:-1], f"{TOKEN}x", f"cloister_{'0' * 32}_{'a' * 43}", "é"):
            answer = await world.browser.log_in(token)

            assert answer.status == 403
            assert "not a token that is in force" in answer.text
            assert not any(each.startswith("cloister_dashboard=") for each in answer.headers.getall("Set-Cookie"))
            assert (await world.browser.get("/dashboard/")).status == 303

    run_dashboard(test)


def test_a_token_that_may_not_read_opens_none(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        _, value = await world.token(None, "deploy", "data")

        answer = await world.browser.log_in(value)

        assert answer.status == 403
        assert "&#39;read&#39;" in answer.text

    run_dashboard(test)


def test_a_login_needs_the_login_pages_own_token(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        assert (await world.browser.post("/dashboard/login", {"token": TOKEN, "csrf": ""})).status == 403
        await world.browser.get("/dashboard/login")
        assert (await world.browser.post("/dashboard/login", {"token": TOKEN, "csrf": "x"})).status == 403

    run_dashboard(test)


def test_a_session_ends_when_its_token_is_revoked_or_rolled(run_dashboard: RunDashboard) -> None:
    narrowed = {"name": "narrowed", "permissions": ["data"], "tenant": "production/acme"}
    disabled = {"name": "off", "permissions": ["read"], "tenant": "production/acme", "status": "disabled"}
    ways: list[tuple[str, str, dict[str, object]]] = [("DELETE", "", {}), ("PUT", "/value", {"json": {}})]
    ways += [("PUT", "", {"json": narrowed}), ("PUT", "", {"json": disabled})]

    async def test(world: World) -> None:
        for method, suffix, options in ways:
            id, value = await world.token("production/acme")
            await world.browser.log_in(value)
            assert (await world.browser.get(ACME)).status == 200

            assert (await world.control.call(method, f"/client/v4/user/tokens/{id}{suffix}", **options)).status == 200

            assert (await world.browser.get(ACME)).status == 303

    run_dashboard(test)


def test_logging_out_ends_the_session_on_the_server(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        await world.browser.log_in()
        await world.browser.get("/dashboard/")
        (id,) = [each.value for each in world.browser.http.cookie_jar if each.key == "cloister_dashboard"]

        assert (await world.browser.post("/dashboard/logout", {})).status == 303

        assert (await world.browser.get("/dashboard/", Cookie=f"cloister_dashboard={id}")).status == 303

    run_dashboard(test)


def test_sessions_expire_and_are_bounded(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        now = 1000.0
        sessions = Sessions(world.control.registry, lambda: now)
        admin = Access("admin", frozenset(PERMISSIONS))
        first = sessions.open(admin)
        assert sessions.find(first) is not None

        now += SESSION_S
        assert sessions.find(first) is None

        ids = [sessions.open(admin) for _ in range(SESSIONS_MAX + 1)]
        assert sessions.find(ids[0]) is None
        assert sessions.find(ids[1]) is not None
        assert len(set(ids)) == len(ids)

    run_dashboard(test)


def test_a_form_without_the_sessions_token_does_nothing(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        await world.browser.log_in()
        for path, csrf in product(FORMS, ("", "x", "é")):
            answer = await world.browser.post(path, {"csrf": csrf, "sql": "CREATE TABLE t (a)", "version": "x"})
            assert answer.status == 403
            assert "load the page again" in answer.text
        assert "No tables." in (await world.browser.get(f"{ACME}/d1/DB")).text

    run_dashboard(test)


def test_the_token_of_another_session_is_none(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        await world.browser.log_in()
        await world.browser.get("/dashboard/")
        stolen = world.browser.csrf

        await world.browser.log_in()

        assert (await world.browser.post("/dashboard/logout", {"csrf": stolen})).status == 403

    run_dashboard(test)


ELSEWHERE = (
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Host": "evil.example"},
)


def test_a_page_of_another_origin_gets_nothing_even_with_the_cookie(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        await world.browser.log_in()
        await world.browser.get("/dashboard/")
        for headers in ELSEWHERE:
            assert (await world.browser.post("/dashboard/logout", {}, **headers)).status == 403
            if "Origin" not in headers:
                answer = await world.browser.get("/dashboard/", **headers)
                assert answer.status == 403
                assert "acme" not in answer.text

    run_dashboard(test)


def test_a_link_from_elsewhere_shows_the_page(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        await world.browser.log_in()
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}

        assert (await world.browser.get("/dashboard/", **headers)).status == 200

    run_dashboard(test)


def test_every_answer_binds_the_browser(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        await world.browser.log_in()
        for path in [*[each for each in PAGES if "tail" not in each], "/dashboard/login", "/dashboard/static/tail.js"]:
            headers = (await world.browser.get(path)).headers
            policy = [part.strip() for part in headers["Content-Security-Policy"].split(";")]
            assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} <= set(
                policy
            )
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")

    run_dashboard(test)


def test_a_tenants_token_sees_its_tenant_alone(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        _, value = await world.token("production/acme")
        await world.browser.log_in(value)

        overview = await world.browser.get("/dashboard/")
        assert ">acme</a>" in overview.text
        assert "other" not in overview.text
        assert (await world.browser.get(ACME)).status == 200
        missing = await world.browser.get("/dashboard/tenants/production/missing")
        for suffix in ("", "/tail", "/kv/KV", "/r2/R2", "/d1/DB"):
            answer = await world.browser.get(OTHER + suffix)
            assert (answer.status, answer.text) == (403, missing.text)
        await world.browser.get("/dashboard/")
        for suffix in ("/deploy", "/d1/DB"):
            assert (await world.browser.post(OTHER + suffix, {"sql": "SELECT 1", "version": "x"})).status == 403

    run_dashboard(test)


def test_a_token_without_data_or_deploy_may_look_and_nothing_else(run_dashboard: RunDashboard) -> None:
    async def test(world: World) -> None:
        _, value = await world.token("production/acme", "read")
        await world.browser.log_in(value)

        page = await world.browser.get(ACME)
        assert page.status == 200
        assert "Browse" not in page.text
        for path in ("kv/KV", "kv/KV/value?key=a", "r2/R2", "r2/R2/object?key=a", "r2/R2/download?key=a", "d1/DB"):
            answer = await world.browser.get(f"{ACME}/{path}")
            assert answer.status == 403
            assert "permission" in answer.text
        await world.browser.get("/dashboard/")
        assert (await world.browser.post(f"{ACME}/deploy", {"version": "x"})).status == 403
        assert (await world.browser.post(f"{ACME}/d1/DB", {"sql": "SELECT 1"})).status == 403

    run_dashboard(test)
