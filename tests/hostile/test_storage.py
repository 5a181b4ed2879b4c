"""Tenants that fill their stores, alone and all of them together, and keys that look like something else."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.e2e.server import Reply
from tests.hostile.site import STORAGE, Site, check_refused

MB = 1_000_000


@pytest.mark.parametrize(
    ("attack", "limit", "code"),
    [
        ("fill_kv", "kv_bytes_max", "limit.kv_storage"),
        ("fill_r2", "r2_bytes_max", "limit.r2_storage"),
        ("fill_r2_by_parts", "r2_bytes_max", "limit.r2_storage"),
        ("fill_d1", "d1_bytes_max", "limit.d1_storage"),
    ],
)
def test_a_store_ends_at_the_tenants_quota_and_goes_on_when_there_is_room(
    site: Site, attack: str, limit: str, code: str
) -> None:
    name = attack.replace("_", "-")
    site.deploy(name, cpu_ms=20_000, **{limit: 12 * MB})

    reply = site.attack(lambda: site.call(name, f"{attack}?30"))

    check_refused(reply, 507, code)
    assert site.logged(name, f"[{code}]")
    if attack != "fill_r2_by_parts":
        assert site.call(name, f"{attack}?9").status in (200, 507)
        assert site.call(name, "empty").text == "emptied"
        assert site.call(name, f"{attack}?5").text == "stored"


def test_a_tenants_stores_share_its_quota(site: Site) -> None:
    second = [{**binding, list(binding)[2]: "second"} for binding in STORAGE]
    quotas = {"kv_bytes_max": 12 * MB, "r2_bytes_max": 12 * MB, "d1_bytes_max": 12 * MB, "cpu_ms": 20_000}
    site.deploy("sharing", **quotas)
    for attack in ("fill_kv", "fill_r2", "fill_d1"):
        assert site.call("sharing", f"{attack}?8").text == "stored"
    site.deploy("sharing", second, **quotas)

    def strike() -> list[Reply]:
        return [site.call("sharing", f"{attack}?8") for attack in ("fill_kv", "fill_r2", "fill_d1")]

    assert [reply.json()["code"] for reply in site.attack(strike)] == [
        "limit.kv_storage",
        "limit.r2_storage",
        "limit.d1_storage",
    ]


def test_a_larger_quota_holds_from_the_next_version(site: Site) -> None:
    site.deploy("growing", kv_bytes_max=3 * MB)
    check_refused(site.call("growing", "fill_kv?8"), 507, "limit.kv_storage")

    site.deploy("growing", kv_bytes_max=20 * MB)

    assert site.call("growing", "fill_kv?8").text == "stored"


KEYS = [
    "../../etc/passwd",
    "/etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "a/../b",
    "a//b",
    "a\0b",
    "a\nb",
    "a.",
    "a",
    "A",
    "a ",
    " a",
    "\u00e9",
    "e\u0301",
    "\u202egnp.exe",
    "\ufeffa",
    "x" * 512,
    "\u00df",
    "ss",
    "\U0001f600",
    "CON",
    "a\\b",
]


def test_each_key_is_its_own(site: Site) -> None:
    site.deploy("keys")

    told = site.attack(lambda: site.call("keys", "keys", body=json.dumps(KEYS))).json()

    for number, (key, (kv_put, r2_put, kv_got, r2_got)) in enumerate(zip(KEYS, told, strict=True)):
        assert "error" in kv_put or kv_got == {"ok": f"kv {number}"}, key
        assert "error" in r2_put or r2_got == {"ok": f"r2 {number}"}, key
        for refused in (kv_put, r2_put):
            assert "/tmp" not in refused.get("error", "")
    assert sum("error" in kv_put for kv_put, *_ in told) == 0


@pytest.mark.parametrize("key", ["", ".", "..", "x" * 513, "\u00e9" * 257, "x" * 1_048_576])
def test_a_key_that_cannot_be_is_refused(site: Site, key: str) -> None:
    site.deploy("keys")

    ((kv_put, r2_put, *_),) = site.attack(lambda: site.call("keys", "keys", body=json.dumps([key]))).json()

    assert "error" in kv_put
    assert len(kv_put["error"]) < 300
    if len(key.encode()) > 1024:
        assert "error" in r2_put


@pytest.mark.parametrize("body", ['["\\ud800"]', '["a\\udfffb"]'])
def test_half_a_character_in_a_key_reaches_no_store(site: Site, body: str) -> None:
    site.deploy("keys")

    reply = site.attack(lambda: site.call("keys", "keys", body=body))

    assert reply.status == 500
    check_refused(reply, 500, reply.json()["code"])


@pytest.fixture
def sql(site: Site) -> Callable[..., list[dict[str, object]]]:
    """Runs statements in the attacker's database, each on its own; what came of them."""
    site.deploy("sql", wall_ms=20_000, cpu_ms=20_000, sql_ms=400, sql_rows_max=5_000, d1_bytes_max=8 * MB)

    def run(*statements: str | tuple[str, list[object]]) -> list[dict[str, object]]:
        asked = [[one, []] if isinstance(one, str) else list(one) for one in statements]
        reply = site.attack(lambda: site.call("sql", "sql", body=json.dumps(asked)))
        assert reply.status == 200, reply.text
        told: list[dict[str, object]] = reply.json()
        return told

    return run


COUNT = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
NUMBERS = "(WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 3000) SELECT x FROM n)"

ENDLESS = {
    "a recursion that never ends": f"{COUNT} SELECT count(*) FROM c",
    "a cross join of billions of rows": f"SELECT count(*) FROM {NUMBERS} a, {NUMBERS} b, {NUMBERS} c",
    "a sort without an end": f"{COUNT} SELECT x FROM c ORDER BY -x LIMIT 1",
    "one opcode that is quadratic (instr)": "SELECT instr(zeroblob(1900000), zeroblob(950000) || x'01')",
    "one opcode that is quadratic (replace)": "SELECT length(replace(printf('%.*c', 1900000, 'a'), "
    "printf('%.*c', 950000, 'a') || 'b', 'c'))",
    "many LIKE patterns": f"SELECT count(*) FROM {NUMBERS} a, {NUMBERS} b WHERE "
    "printf('%.*c', 5000 + a.x + b.x, 'a') LIKE '%a%a%a%a%a%b'",
}


@pytest.mark.parametrize("statement", ENDLESS.values(), ids=ENDLESS)
def test_sql_that_does_not_end_is_ended(sql: Callable[..., list[dict[str, str]]], statement: str) -> None:
    told, after = sql(statement, "SELECT 1")

    assert "exceeded its CPU time limit" in told["error"] or "exceeded its memory limit" in told["error"]
    assert "ok" in after


BOMBS = {
    "a value of 1 GB": "SELECT length(randomblob(1000000000))",
    "a text of 1 GB": "SELECT length(printf('%.*c', 1000000000, 'x'))",
    "a text that doubles": "WITH RECURSIVE d (t) AS (SELECT 'xxxxxxxx' UNION ALL SELECT t || t FROM d) "
    "SELECT max(length(t)) FROM d",
    "a statement of 10 MB": "SELECT '" + "x" * 10_000_000 + "'",
    "10,000 parameters": ("SELECT " + ",".join("?" * 10_000), [1] * 10_000),
    "an expression that is too deep": "SELECT " + "NOT " * 2_000 + "1",
    "a sum that is too deep": "SELECT " + "+".join("1" * 5_000),
    "5,000 columns": "SELECT " + ",".join("1" * 5_000),
    "1,000 selects in one": " UNION ALL ".join(["SELECT 1"] * 1_000),
    "a LIKE pattern that is too long": "SELECT 'a' LIKE '" + "%a" * 10_000 + "'",
    "a GLOB pattern that is too long": "SELECT 'a' GLOB '" + "*a" * 10_000 + "'",
    "NUL in a statement": "SELECT 1\0; SELECT 2",
    "a transaction left open": "BEGIN",
    "a transaction left open by force": "BEGIN EXCLUSIVE",
    "a savepoint left open": "SAVEPOINT s",
    "an attached file": "ATTACH '/etc/passwd' AS p",
    "an attached memory": "ATTACH ':memory:' AS m",
    "a file written by VACUUM": "VACUUM INTO '/tmp/cloister-hostile.sqlite'",
    "an extension": "SELECT load_extension('/lib/x86_64-linux-gnu/libc.so.6')",
    "a writable schema": "PRAGMA writable_schema = 1",
    "another temp directory": "PRAGMA temp_store_directory = '/tmp'",
    "another heap limit": "PRAGMA hard_heap_limit = 0",
    "another page count": "PRAGMA max_page_count = 1000000000",
    "where the file is": "PRAGMA database_list",
    "a temporary table": "CREATE TEMP TABLE t (a)",
    "a changed schema table": "UPDATE sqlite_master SET sql = ''",
}


@pytest.mark.parametrize("statement", BOMBS.values(), ids=BOMBS)
def test_sql_that_is_too_much_or_not_allowed_is_refused(
    sql: Callable[..., list[dict[str, str]]], statement: str | tuple[str, list[object]]
) -> None:
    told, after = sql(statement, "SELECT 1")

    assert told.get("error", "").startswith("Error: D1_"), told
    assert len(told["error"]) < 1_000
    assert "/" not in told["error"].replace(str(statement), "").replace("and/or", "")
    assert "ok" in after


def test_a_limit_of_sql_that_is_not_caught_is_told_to_the_caller(site: Site, sql: object) -> None:
    slow = site.attack(lambda: site.call("sql", "sql_uncaught", body=ENDLESS["a recursion that never ends"]))
    check_refused(slow, 503, "limit.sql_time")
    assert site.logged("sql", "[limit.sql_time]")

    many = site.attack(lambda: site.call("sql", "sql_uncaught", body=f"{COUNT} SELECT x FROM c LIMIT 5001"))
    check_refused(many, 503, "limit.sql_rows")
    assert site.logged("sql", "[limit.sql_rows]")


def test_what_spills_while_it_sorts_stays_in_memory_and_bounded(
    site: Site, sql: Callable[..., list[dict[str, str]]]
) -> None:
    told, after = sql(f"{COUNT} SELECT randomblob(100000) AS b FROM c ORDER BY b LIMIT 1", "SELECT 1")

    assert "limit" in told["error"]
    assert "ok" in after
