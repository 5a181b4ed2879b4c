"""Uploading, showing, listing and removing scripts and namespaces."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from runtime.control.upload import PARTS_MAX
from tests.runtime.control.service import NAMESPACES, SCRIPTS, Control, RunControl, form, serve_control

SECRET = "correct horse battery staple"
BINDINGS = [
    {"type": "kv_namespace", "name": "USER_KV", "namespace_id": "kv-1"},
    {"type": "r2_bucket", "name": "USER_R2", "bucket_name": "files"},
    {"type": "d1", "name": "USER_DB", "id": "db-1"},
    {"type": "plain_text", "name": "GREETING", "text": "hello"},
    {"type": "json", "name": "SETTINGS", "json": {"a": [1]}},
]
SECRET_BINDING = {"type": "secret_text", "name": "API_KEY", "text": SECRET}


def test_an_upload_is_deployed_and_shown_as_it_was_uploaded(run_control: RunControl, component: bytes) -> None:
    async def test(control: Control) -> None:
        metadata = {"bindings": BINDINGS, "limits": {"cpu_ms": 50}, "tags": ["a", "b"]}
        result = (await control.put("worker-1", component, metadata)).result

        digest = hashlib.sha256(component).hexdigest()
        assert result["id"] == "worker-1"
        assert result["etag"] == digest
        assert result["created_on"] == result["modified_on"]
        assert result["startup_time_ms"] == 0
        assert result["entry_point"] == "worker.wasm"
        assert result["tags"] == ["a", "b"]
        found = control.registry.find("production", "worker-1")
        assert found is not None and (found.artifact, found.limits.cpu_ms) == (digest, 50)

        shown = (await control.call("GET", f"{SCRIPTS}/worker-1")).result
        assert shown["dispatch_namespace"] == "production"
        assert shown["script"]["bindings"] == BINDINGS
        assert shown["script"]["limits"]["cpu_ms"] == 50
        assert control.uploads() == []

    run_control(test)


def test_the_next_upload_is_the_next_version_of_the_same_script(run_control: RunControl, component: bytes) -> None:
    async def test(control: Control) -> None:
        first = (await control.put("worker", component)).result
        second = (await control.put("worker", component, {"tags": ["new"]})).result
        assert (first["version_number"], second["version_number"]) == (1, 2)
        assert first["version_id"] != second["version_id"]
        assert second["created_on"] == first["created_on"]

    run_control(test)


def _field(name: str, value: bytes | str, filename: str | None = None, content_type: str | None = None) -> Any:
    content = io.BytesIO(value) if isinstance(value, bytes) else value
    return {"name": name, "value": content, "filename": filename, "content_type": content_type}


@pytest.mark.parametrize("module", ["worker.wasm", "src/deep/worker.wasm", "index"])
@pytest.mark.parametrize("client", ["curl", "sdk-4", "sdk-5", "sdk-5-content", "metadata-last", "no-filename"])
def test_every_clients_way_of_naming_parts_is_understood(
    run_control: RunControl, component: bytes, client: str, module: str
) -> None:
    metadata = json.dumps({"main_module": module})
    wasm = "application/wasm"
    parts = {
        "curl": [
            _field("metadata", metadata, "metadata.json", "application/json"),
            _field(module, component, "worker", wasm),
        ],
        "sdk-4": [_field("metadata", metadata), _field(module, component, module, wasm)],
        "sdk-5": [_field("metadata", metadata, None, "application/json"), _field("files", component, module, wasm)],
        "sdk-5-content": [_field("metadata", metadata), _field("files[]", component, module, wasm)],
        "metadata-last": [_field(module, component, module, wasm), _field("metadata", metadata)],
        "no-filename": [_field("metadata", metadata), _field(module, component, None, "application/octet-stream")],
    }[client]

    async def test(control: Control) -> None:
        data = aiohttp.FormData(default_to_multipart=True, quote_fields=False)
        for part in parts:
            data.add_field(**part)
        answer = await control.call("PUT", f"{SCRIPTS}/worker", data=data)
        assert answer.result["entry_point"] == module

    run_control(test)


def test_secrets_are_deployed_and_never_shown_again(
    run_control: RunControl, component: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def test(control: Control) -> None:
        answers = [
            await control.put("worker", component, {"bindings": [SECRET_BINDING]}),
            await control.call("GET", f"{SCRIPTS}/worker"),
            await control.call("GET", SCRIPTS),
        ]
        found = control.registry.find("production", "worker")
        assert found is not None and found.bindings[0].value == SECRET
        assert answers[1].result["script"]["bindings"] == [{"type": "secret_text", "name": "API_KEY"}]
        assert not any(SECRET in answer.text for answer in answers)

    run_control(test)
    assert SECRET not in caplog.text


def test_secrets_can_be_kept_without_being_sent_again(run_control: RunControl, component: bytes) -> None:
    async def test(control: Control) -> None:
        await control.put("worker", component, {"bindings": [SECRET_BINDING, *BINDINGS]})
        await control.put("worker", component, {"keep_bindings": ["secret_text"]})
        found = control.registry.find("production", "worker")
        assert found is not None and [binding.value for binding in found.bindings] == [SECRET]

    run_control(test)


def test_a_secret_in_bad_metadata_is_not_in_the_answer(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        twice = [SECRET_BINDING, SECRET_BINDING]
        answer = await control.put("worker", b"", {"bindings": twice})
        assert answer.status == 400
        assert SECRET not in answer.text

    run_control(test)


REJECTED = {
    "nothing": b"",
    "text": b"print('hello')",
    "a core module": b"\0asm\x01\0\0\0",
    "an empty component": b"\0asm\x0d\0\x01\0",
}


@pytest.mark.parametrize("kind", REJECTED)
def test_a_component_that_cannot_run_is_refused_and_the_running_version_stays(
    run_control: RunControl, component: bytes, kind: str
) -> None:
    async def test(control: Control) -> None:
        await control.put("worker", component)
        before = control.registry.find("production", "worker")
        answer = await control.put("worker", REJECTED[kind])
        assert 400 <= answer.status < 500
        assert len(answer.message) >= 20
        assert str(control.settings.data) not in answer.text
        assert control.registry.find("production", "worker") is before
        assert control.uploads() == []

    run_control(test)


def test_an_upload_above_the_limit_is_refused_by_its_announced_length(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        answer = await control.put("worker", bytes(4 * 1024 * 1024))
        assert (answer.status, answer.code) == (413, 10027)
        assert "100000 bytes" in answer.message
        assert control.uploads() == []

    run_control(test, upload_bytes_max=100_000)


def test_an_upload_above_the_limit_is_refused_while_it_streams_in(run_control: RunControl) -> None:
    boundary, sent = "b", 0

    async def body() -> Any:
        nonlocal sent
        yield f'--{boundary}\r\nContent-Disposition: form-data; name="w"; filename="w"\r\n\r\n'.encode()
        while sent < 512 * 1024 * 1024:
            sent += 65_536
            yield bytes(65_536)

    async def test(control: Control) -> None:
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        try:
            answer = await control.call("PUT", f"{SCRIPTS}/worker", data=body(), headers=headers)
        except aiohttp.ClientConnectionError:
            pass  # The server may close the connection before this client has read the answer.
        else:
            assert (answer.status, answer.code) == (413, 10027)
        assert sent < 64 * 1024 * 1024
        assert control.uploads() == []

    run_control(test, upload_bytes_max=100_000)


def test_an_upload_of_exactly_the_limit_gets_to_the_store(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        assert (await control.put("worker", bytes(100_000))).status == 400
        assert (await control.put("worker", bytes(100_001))).status == 413

    run_control(test, upload_bytes_max=100_000)


HEAD = b'--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{"main_module":"w"}\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="w"; filename="w"\r\n\r\nwasm\r\n'

BAD_BODIES: dict[str, tuple[str, bytes, int, str]] = {
    "not multipart": ("text/plain", b'{"metadata": {}}', 415, "multipart/form-data"),
    "no content type": ("", b"x", 415, "multipart/form-data"),
    "no boundary": ("multipart/form-data", HEAD, 400, "Content-Type"),
    "empty": ("multipart/form-data; boundary=b", b"", 400, "broken or incomplete"),
    "no parts": ("multipart/form-data; boundary=b", b"--b--\r\n", 400, "metadata: the part is missing"),
    "cut off": ("multipart/form-data; boundary=b", HEAD + FILE[:-5], 400, "broken or incomplete"),
    "no metadata": ("multipart/form-data; boundary=b", FILE + b"--b--\r\n", 400, "metadata: the part is missing"),
    "two metadata": ("multipart/form-data; boundary=b", HEAD + HEAD + b"--b--\r\n", 400, "two `metadata` parts"),
    "no component": ("multipart/form-data; boundary=b", HEAD + b"--b--\r\n", 400, "no part is named 'w'"),
    "another name": (
        "multipart/form-data; boundary=b",
        HEAD + FILE.replace(b'"w"', b'"x"') + b"--b--\r\n",
        400,
        "the parts are: 'x'",
    ),
    "one file too many": (
        "multipart/form-data; boundary=b",
        HEAD + FILE + FILE.replace(b'"w"', b'"lib.py"') + b"--b--\r\n",
        400,
        "'lib.py' is not used",
    ),
    "many parts": ("multipart/form-data; boundary=b", HEAD + FILE * PARTS_MAX + b"--b--\r\n", 400, "segment count"),
    "huge header": ("multipart/form-data; boundary=b", b"--b\r\nX: " + b"y" * 10_000, 400, "header length"),
    "huge metadata": (
        "multipart/form-data; boundary=b",
        HEAD.replace(b"}", b" " * 1_100_000 + b"}") + FILE + b"--b--\r\n",
        413,
        "metadata: is larger",
    ),
}


@pytest.mark.parametrize("kind", BAD_BODIES)
def test_a_body_that_is_not_an_upload_is_refused_with_the_reason(run_control: RunControl, kind: str) -> None:
    content_type, body, status, sentence = BAD_BODIES[kind]

    async def test(control: Control) -> None:
        headers = {"Content-Type": content_type}
        answer = await control.call("PUT", f"{SCRIPTS}/worker", data=io.BytesIO(body), headers=headers)
        assert answer.status == status
        assert sentence in answer.message
        assert control.uploads() == []
        assert control.registry.find("production", "worker") is None

    run_control(test)


def test_a_client_that_goes_away_leaves_nothing_behind(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", control.port)
        credentials = control.http.headers["Authorization"]
        writer.write(
            f"PUT {SCRIPTS}/worker HTTP/1.1\r\nHost: localhost\r\nAuthorization: {credentials}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 50000\r\n\r\n".encode()
        )
        writer.write(HEAD + FILE[:-6])
        await writer.drain()
        async with asyncio.timeout(20):
            while not control.uploads():
                await asyncio.sleep(0.01)
            writer.close()
            while control.uploads():
                await asyncio.sleep(0.01)

    run_control(test)


def test_what_a_killed_server_left_in_the_uploads_is_deleted_at_the_next_start(run_control: RunControl) -> None:
    async def first(control: Control) -> None:
        (control.settings.uploads_directory / "left.upload").write_bytes(b"x")
        (control.settings.uploads_directory / "left.transfer").mkdir()

    async def second(control: Control) -> None:
        assert control.uploads() == []

    run_control(first)
    run_control(second)


def test_what_another_server_is_receiving_stays(run_control: RunControl, artifacts_directory: Path) -> None:
    async def test(control: Control) -> None:
        (control.settings.uploads_directory / "under-way.upload").write_bytes(b"x")

        async with serve_control(control.settings, artifacts_directory) as second:
            assert second.uploads() == ["under-way.upload"]

    run_control(test)


@pytest.mark.parametrize("name", ["UPPER", "a.b", "-a", "a" * 64, "%2e%2e", "a%2Fb", "a%00b", "%C3%A9"])
def test_a_hostile_script_name_is_refused_before_anything_is_read(run_control: RunControl, name: str) -> None:
    async def test(control: Control) -> None:
        url: Any = URL(f"http://127.0.0.1:{control.port}{SCRIPTS}/{name}", encoded=True)
        answer = await control.call("PUT", url, data=form({"main_module": "worker.wasm"}, b""))
        assert (answer.status, answer.code) == (400, 10021)
        assert "1 to 63 lower-case letters" in answer.message
        for method in ("GET", "DELETE"):
            answer = await control.call(method, url)
            assert (answer.status, answer.code) == (404, 10007)

    run_control(test)


def test_uploads_into_a_namespace_that_is_not_there_are_refused(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        path = SCRIPTS.replace("production", "elsewhere")
        answer = await control.call("PUT", f"{path}/worker", data=form({"main_module": "worker.wasm"}, b""))
        assert (answer.status, answer.code) == (404, 100119)

    run_control(test)


def test_scripts_are_listed_by_name_in_pages(run_control: RunControl, component: bytes) -> None:
    async def test(control: Control) -> None:
        for name in ("c", "a", "b"):
            await control.put(name, component)
        everything = await control.call("GET", SCRIPTS)
        assert [script["id"] for script in everything.result] == ["a", "b", "c"]
        assert everything.body["result_info"]["cursor"] == ""

        first = (await control.call("GET", f"{SCRIPTS}?limit=2")).body
        assert [script["id"] for script in first["result"]] == ["a", "b"]
        second = (await control.call("GET", f"{SCRIPTS}?limit=2&cursor={first['result_info']['cursor']}")).body
        assert [script["id"] for script in second["result"]] == ["c"]
        assert second["result_info"]["cursor"] == ""

        for limit in ("0", "1001", "x", "-1", "²"):
            assert (await control.call("GET", SCRIPTS, params={"limit": limit})).status == 400

    run_control(test)


def test_a_deleted_script_is_gone_and_what_it_stored_stays(run_control: RunControl, component: bytes) -> None:
    async def test(control: Control) -> None:
        await control.put("worker", component, {"bindings": BINDINGS})
        found = control.registry.find("production", "worker")
        assert found is not None
        store = control.resources.scope(found.tenant, found.bindings).kv("USER_KV")
        await store.put("key", b"value")

        deleted = (await control.call("DELETE", f"{SCRIPTS}/worker?force=true")).result
        assert deleted == {"id": "worker", "deleted": True, "data_purged": False}
        assert (await control.call("GET", f"{SCRIPTS}/worker")).code == 10007
        assert any(path.is_file() for path in control.settings.resources_directory.rglob("*"))

        again = await control.call("DELETE", f"{SCRIPTS}/worker")
        assert (again.status, again.code) == (404, 10007)

        purged = (await control.call("DELETE", f"{SCRIPTS}/worker?purge_data=true")).result
        assert purged == {"id": "worker", "deleted": False, "data_purged": True}
        assert not any(path.is_file() for path in control.settings.resources_directory.rglob("*"))

    run_control(test)


def test_uploads_and_deletes_at_once_never_lose_a_component_in_use(run_control: RunControl, component: bytes) -> None:
    async def test(control: Control) -> None:
        async def churn(name: str) -> None:
            for _ in range(4):
                assert (await control.put(name, component)).status == 200
                await control.call("DELETE", f"{SCRIPTS}/{name}")
            assert (await control.put(name, component)).status == 200

        await asyncio.gather(*[churn(f"worker-{number}") for number in range(4)])
        for version in control.registry.list_scripts("production"):
            with await control.artifacts.compiled(version.artifact) as compiled:
                assert compiled.component.exists()

    run_control(test)


def test_namespaces_are_made_shown_and_deleted(run_control: RunControl, component: bytes) -> None:
    async def test(control: Control) -> None:
        created = (await control.call("POST", NAMESPACES, json={"name": "staging"})).result
        assert (created["namespace_name"], created["script_count"], created["trusted_workers"]) == ("staging", 0, False)
        assert (await control.call("GET", f"{NAMESPACES}/staging")).result == created
        names = [namespace["namespace_name"] for namespace in (await control.call("GET", NAMESPACES)).result]
        assert names == ["production", "staging"]

        again = await control.call("POST", NAMESPACES, json={"name": "staging"})
        assert (again.status, again.code) == (409, 100120)

        assert (await control.call("DELETE", f"{NAMESPACES}/staging")).result is None
        assert (await control.call("GET", f"{NAMESPACES}/staging")).code == 100119

        await control.put("worker", component)
        full = await control.call("DELETE", f"{NAMESPACES}/production")
        assert (full.status, full.code) == (409, 100120)

    run_control(test)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"name": 5}', b'{"name": "A"}', b"\xff", b"[" * 50_000])
def test_a_namespace_needs_a_valid_name(run_control: RunControl, body: bytes) -> None:
    async def test(control: Control) -> None:
        answer = await control.call("POST", NAMESPACES, data=body)
        assert (answer.status, answer.code) == (400, 10021)

    run_control(test)


def test_a_body_of_a_small_request_is_bounded(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        assert (await control.call("POST", NAMESPACES, data=b" " * 300_000)).status == 413

    run_control(test)
