"""One tenant tries to reach another's KV, R2 and D1 with every name, number and statement that the contract takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.isolation.conftest import VICTIM_STORAGE, Tenants, storage

Call = Callable[..., list[Any]]

READS = {
    "kv.get": ["KV", "secret"],
    "kv.get-many": ["KV", ["secret", "secret-2"]],
    "kv.list": ["KV"],
    "r2.head": ["R2", "secret"],
    "r2.get": ["R2", "secret"],
    "r2.list": ["R2"],
    "d1.query": ["D1", "SELECT * FROM secret"],
}
WRITES = {
    "kv.put": ["KV", "secret", "overwritten"],
    "kv.delete": ["KV", "secret"],
    "r2.put": ["R2", "secret", "overwritten"],
    "r2.delete": ["R2", ["secret", "secret-2"]],
    "d1.exec": ["D1", "DROP TABLE secret"],
    "r2.create-multipart-upload": ["R2", "secret"],
}


def steps(suffix: str, *kinds: dict[str, list[Any]]) -> list[list[object]]:
    """The calls, on the bindings whose names end in `suffix`."""
    return [[name, f"{arguments[0]}{suffix}", *arguments[1:]] for kind in kinds for name, arguments in kind.items()]


@pytest.fixture(autouse=True)
def the_victims_data_stays(victim: Call) -> Any:
    """Whatever a test tries, the victim finds its stores as they were."""
    yield
    found = victim(
        ["kv.get", "KV_OF_VICTIM", "secret"],
        ["kv.list", "KV_OF_VICTIM"],
        ["r2.get", "R2_OF_VICTIM", "secret"],
        ["r2.list", "R2_OF_VICTIM"],
        ["d1.query", "D1_OF_VICTIM", "SELECT value FROM secret"],
    )
    assert found[0] == {"ok": "secret-in-kv"}
    assert [key["name"] for key in found[1]["ok"]["keys"]] == ["secret", "secret-2"]
    assert found[2] == {"ok": "secret-in-r2"}
    assert [one["key"] for one in found[3]["ok"]["objects"]] == ["secret", "secret-2"]
    assert found[4]["ok"][0]["rows"] == [["secret-in-d1"]]


def test_the_same_names_and_ids_are_other_stores(tenants: Tenants, victim: Call) -> None:
    twin = tenants.deploy("twin", VICTIM_STORAGE)

    results = twin(*steps("_OF_VICTIM", READS))

    assert "secret-in" not in json.dumps(results)
    assert results[0] == {"ok": None}
    assert results[2]["ok"]["keys"] == []
    assert results[5]["ok"]["objects"] == []
    assert "no such table" in results[6]["error"]


def test_writes_under_the_same_names_do_not_meet(tenants: Tenants, victim: Call) -> None:
    twin = tenants.deploy("writing-twin", VICTIM_STORAGE)

    results = twin(["d1.exec", "D1_OF_VICTIM", "CREATE TABLE secret (value)"], *steps("_OF_VICTIM", WRITES))

    assert not [result for result in results if "error" in result]


@pytest.mark.parametrize(
    "name", ["_OF_VICTIM", "", "_OF_VICTIM\0", "/../_OF_VICTIM", "_of_victim", "_OF_VICTIM" * 1000]
)
def test_a_binding_of_another_tenant_is_not_there(tenants: Tenants, victim: Call, name: str) -> None:
    intruder = tenants.deploy("intruder", storage("", "intruders-own")) if name else tenants.deploy("intruder", [])

    results = intruder(*steps(name, READS, WRITES))

    assert all(result["error"].startswith("TypeError: This worker has no ") for result in results)


@pytest.mark.parametrize("wrong", ["kv.get", "r2.get", "d1.query"])
def test_a_binding_is_of_its_own_kind_only(tenants: Tenants, victim: Call, wrong: str) -> None:
    intruder = tenants.deploy("confused", storage("", "own"))
    others = [name for name in ("KV", "R2", "D1") if not wrong.upper().startswith(name)]

    results = intruder(*[[wrong, name, "secret"] for name in others])

    assert all(result["error"].startswith("TypeError: This worker has no ") for result in results)


@pytest.mark.parametrize(
    "resource_id",
    [
        "victims-own",
        "victim/victims-own",
        "../victim/kv_namespace/victims-own",
        "../../victims-own",
        "production:victim:victims-own",
        "/",
        ".",
        "..",
        "victims-own/",
        "VICTIMS-OWN",
        "victims-own ",
        "victims\u2010own",
        "v" * 256,
    ],
)
def test_no_resource_id_leads_to_another_tenants_store(tenants: Tenants, victim: Call, resource_id: str) -> None:
    intruder = tenants.deploy("renamed", storage("", resource_id))

    results = intruder(*steps("", READS))

    assert "secret-in" not in json.dumps(results)
    assert results[0] == {"ok": None}
    assert results[5]["ok"]["objects"] == []
    assert "no such table" in results[6]["error"]


@pytest.mark.parametrize("name", ["victim/x", "..", "victim\0", "VICTIM", "victim x", "production/victim"])
def test_no_caller_reaches_a_tenant_under_another_name(tenants: Tenants, victim: Call, name: str) -> None:
    reply = tenants.server.request("POST", "/", user=name.replace("\0", "%00"), body="[]")

    assert reply.status == 404


def test_what_is_bound_is_described_without_what_stands_behind(tenants: Tenants, victim: Call) -> None:
    intruder = tenants.deploy("curious", storage("", "behind-it"))

    described = intruder(["bindings"])[0]["ok"]

    assert described == {
        "KV": {"type": "kv_namespace"},
        "R2": {"type": "r2_bucket"},
        "D1": {"type": "d1"},
    }


def test_memory_is_not_shared_between_tenants_of_one_component(tenants: Tenants, victim: Call) -> None:
    intruder = tenants.deploy("same-code", [])

    assert all(intruder(["kept"]) == [{"ok": []}] for _ in range(20))


def test_a_new_version_begins_with_fresh_memory(tenants: Tenants, victim: Call) -> None:
    before = tenants.deploy("versions", [])
    before(["keep", "of version 1"])
    after = tenants.deploy("versions", [])

    assert after(["kept"]) == [{"ok": []}]


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 100, 4096, 2**31 - 1, 2**32 - 1])
def test_a_forged_handle_reaches_nothing(tenants: Tenants, victim: Call, number: int) -> None:
    intruder = tenants.deploy("forger", [])

    reply = tenants.server.request("POST", "/", user="forger", body=json.dumps([["forged-body", number]]))

    assert reply.status == 500
    assert "secret" not in reply.text
    assert intruder(["kept"]) == [{"ok": []}]


def test_cursors_of_another_tenant_show_only_ones_own(tenants: Tenants, victim: Call) -> None:
    pages = victim(["kv.list", "KV_OF_VICTIM", '{"limit": 1}'], ["r2.list", "R2_OF_VICTIM", '{"limit": 1}'])
    cursors = [page["ok"]["cursor"] for page in pages]
    intruder = tenants.deploy("paging", storage("", "victims-own"))

    results = intruder(
        ["kv.list", "KV", json.dumps({"cursor": cursors[0]})],
        ["r2.list", "R2", json.dumps({"cursor": cursors[1]})],
    )

    assert "secret" not in json.dumps(results)


def test_an_upload_of_another_tenant_cannot_be_touched(tenants: Tenants, victim: Call) -> None:
    upload = victim(["r2.create-multipart-upload", "R2_OF_VICTIM", "assembled"])[0]["ok"]
    part = victim(["r2.upload-part", "R2_OF_VICTIM", "assembled", upload, 1, "of the victim"])[0]["ok"]
    intruder = tenants.deploy("uploader", VICTIM_STORAGE)

    results = intruder(
        ["r2.upload-part", "R2_OF_VICTIM", "assembled", upload, 1, "of the intruder"],
        ["r2.complete-multipart-upload", "R2_OF_VICTIM", "assembled", upload, [part]],
        ["r2.abort-multipart-upload", "R2_OF_VICTIM", "assembled", upload],
        ["r2.get", "R2_OF_VICTIM", "assembled"],
    )
    assembled = victim(
        ["r2.complete-multipart-upload", "R2_OF_VICTIM", "assembled", upload, [part]],
        ["r2.get", "R2_OF_VICTIM", "assembled"],
        ["r2.delete", "R2_OF_VICTIM", ["assembled"]],
    )

    assert "error" in results[0]
    assert "error" in results[1]
    assert results[3] == {"ok": None}
    assert assembled[1] == {"ok": "of the victim"}


SQL = [
    "ATTACH DATABASE 'victims-own' AS stolen",
    "ATTACH DATABASE '/etc/passwd' AS stolen",
    "ATTACH DATABASE ':memory:' AS stolen",
    "ATTACH DATABASE 'file:../../../victim?mode=ro' AS stolen",
    "DETACH DATABASE main",
    "VACUUM INTO '/tmp/cloister-stolen'",
    "SELECT load_extension('/lib/x86_64-linux-gnu/libc.so.6')",
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('/tmp/cloister-stolen', 'x')",
    "SELECT fts3_tokenizer('simple')",
    "CREATE VIRTUAL TABLE stolen USING csv(filename='/etc/passwd')",
    "PRAGMA database_list",
    "PRAGMA writable_schema = ON",
    "PRAGMA temp_store_directory = '/tmp'",
    "PRAGMA journal_mode = OFF",
    "PRAGMA wal_checkpoint",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM dbstat",
    "SELECT * FROM sqlite_dbpage",
]


@pytest.mark.parametrize("sql", SQL)
def test_sql_does_not_leave_its_database(tenants: Tenants, victim: Call, sql: str) -> None:
    intruder = tenants.deploy("sql-intruder", storage("", "victims-own"))

    results = intruder(["d1.query", "D1", sql], ["d1.exec", "D1", sql])

    assert all("error" in result for result in results)
    assert "/" not in json.dumps(results).replace(sql, "")


def test_a_database_shows_only_its_own_tables(tenants: Tenants, victim: Call) -> None:
    intruder = tenants.deploy("sql-reader", storage("", "victims-own"))

    results = intruder(
        ["d1.exec", "D1", "CREATE TABLE IF NOT EXISTS mine (a)"],
        ["d1.query", "D1", "SELECT name FROM sqlite_master"],
        ["d1.query", "D1", "PRAGMA table_list"],
    )

    assert [row[0] for row in results[1]["ok"][0]["rows"]] == ["mine"]
    assert "secret" not in json.dumps(results[2])


def test_errors_say_nothing_of_other_tenants_or_of_the_host(tenants: Tenants, victim: Call) -> None:
    intruder = tenants.deploy("listener", storage("", "victims-own"))

    results = intruder(*steps("_OF_VICTIM", READS, WRITES), ["d1.query", "D1", "SELECT * FROM secret"])
    reply = tenants.server.request("POST", "/", user="listener", body="not json")

    said = json.dumps(results) + reply.text
    for word in ("victim/", "/tmp", "/work", ".sqlite", "Traceback", "site-packages", "isolation"):
        assert word not in said
    assert reply.status == 500
