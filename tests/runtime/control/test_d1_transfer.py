"""Databases as files: addresses that need no token, each good for one file, one direction and an hour."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from runtime.control.transfers import LIFE_S, TRANSFERS_MAX, Transfers
from tests.runtime.control.service import Answer, Control, RunControl

D1 = "/client/v4/accounts/local/d1/database"
SQL = b"CREATE TABLE t (x); INSERT INTO t VALUES ('imported');"


async def create(control: Control, name: str) -> str:
    return str((await control.call("POST", D1, json={"name": name})).result["uuid"])


async def query(control: Control, id: str, sql: str) -> Any:
    return (await control.call("POST", f"{D1}/{id}/query", json={"sql": sql})).result[-1]["results"]


async def send(control: Control, method: str, url: str, data: bytes | None = None) -> Answer:
    """Without a token, as a client calls a signed address."""
    return await control.call(method, url, data=data, headers={"Authorization": ""})


def test_an_export_is_fetched_and_an_import_sent_without_a_token(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        source, target = await create(control, "source"), await create(control, "target")
        await query(control, source, "CREATE TABLE t (x); INSERT INTO t VALUES (1), ('two')")

        exported = (await control.call("POST", f"{D1}/{source}/export", json={"output_format": "polling"})).result
        assert exported["status"] == "complete"
        dump = (await send(control, "GET", exported["result"]["signed_url"])).text.encode()
        etag = hashlib.md5(dump).hexdigest()
        begun = (await control.call("POST", f"{D1}/{target}/import", json={"action": "init", "etag": etag})).result
        sent = await send(control, "PUT", begun["upload_url"], dump)
        assert (sent.status, sent.headers["ETag"]) == (200, f'"{etag}"')
        ingest = {"action": "ingest", "filename": begun["filename"], "etag": etag}
        done = (await control.call("POST", f"{D1}/{target}/import", json=ingest)).result

        assert (done["status"], done["result"]["num_queries"]) == ("complete", 4)
        assert await query(control, target, "SELECT x FROM t") == [{"x": 1}, {"x": "two"}]

    run_control(test)


def test_an_address_of_a_transfer_is_good_for_one_thing(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        id, other = await create(control, "mine"), await create(control, "other")
        etag = hashlib.md5(SQL).hexdigest()
        begun = (await control.call("POST", f"{D1}/{id}/import", json={"action": "init", "etag": etag})).result
        address = begun["upload_url"]
        exported = (await control.call("POST", f"{D1}/{id}/export", json={"output_format": "polling"})).result

        assert (await send(control, "GET", address)).status == 404
        assert (await send(control, "PUT", exported["result"]["signed_url"], SQL)).status == 404
        assert (await send(control, "GET", address[:-1])).status == 404
        ingest = {"action": "ingest", "filename": begun["filename"], "etag": etag}
        assert (await control.call("POST", f"{D1}/{id}/import", json=ingest)).status == 400
        changed = await send(control, "PUT", address, SQL + b" ")
        assert changed.status == 400 and "MD5" in changed.message
        assert (await send(control, "PUT", address, SQL)).status == 200
        assert (await control.call("POST", f"{D1}/{other}/import", json=ingest)).status == 400
        assert (await control.call("POST", f"{D1}/{id}/import", json=ingest)).status == 200
        assert await query(control, id, "SELECT x FROM t") == [{"x": "imported"}]

    run_control(test)


def test_an_import_that_fails_changes_nothing(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        id = await create(control, "mine")
        await query(control, id, "CREATE TABLE kept (x)")
        broken = SQL + b" INSERT INTO missing VALUES (1);"
        etag = hashlib.md5(broken).hexdigest()
        begun = (await control.call("POST", f"{D1}/{id}/import", json={"action": "init", "etag": etag})).result
        await send(control, "PUT", begun["upload_url"], broken)
        ingest = {"action": "ingest", "filename": begun["filename"], "etag": etag}

        failed = await control.call("POST", f"{D1}/{id}/import", json=ingest)

        assert (failed.status, failed.code) == (400, 7500)
        assert "no such table: missing" in failed.message
        tables = await query(control, id, "SELECT name FROM sqlite_master WHERE type = 'table'")
        assert tables == [{"name": "kept"}]

    run_control(test)


def test_a_database_goes_back_in_time_and_forth_again(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        id = await create(control, "mine")
        await query(control, id, "CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        before = (await control.call("GET", f"{D1}/{id}/time_travel/bookmark")).result["bookmark"]
        await query(control, id, "DELETE FROM t")

        travelled = await control.call("POST", f"{D1}/{id}/time_travel/restore?bookmark={before}")
        assert await query(control, id, "SELECT x FROM t") == [{"x": 1}]
        await control.call("POST", f"{D1}/{id}/time_travel/restore?bookmark={travelled.result['previous_bookmark']}")
        assert await query(control, id, "SELECT x FROM t") == []
        assert (await control.call("POST", f"{D1}/{id}/time_travel/restore")).status == 400

    run_control(test)


def test_transfers_end_after_an_hour_and_are_bounded(tmp_path: Path) -> None:
    async def run() -> None:
        now = 0.0
        transfers = Transfers(tmp_path, clock=lambda: now)
        first = await transfers.open(None, "db", upload=True, etag="0" * 32)
        assert transfers.find(first.id, upload=True) is first
        now = LIFE_S
        assert transfers.find(first.id, upload=True) is None
        await transfers.expire()
        assert list(tmp_path.iterdir()) == []
        opened = [await transfers.open(None, "db", upload=False) for _ in range(TRANSFERS_MAX + 3)]
        assert len(list(tmp_path.iterdir())) == TRANSFERS_MAX
        assert transfers.find(opened[0].id, upload=False) is None
        assert transfers.find(opened[-1].id, upload=False) is opened[-1]
        await transfers.close()
        assert list(tmp_path.iterdir()) == []

    asyncio.run(run())
