"""The official Python client against a server of ours, with nothing but its address and token changed.

These tests run with the version that is installed, and once more with version 4, which differs on the wire
(`test_python_sdk_4`): what only one of them has is said where it is used.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from cloudflare import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    Cloudflare,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
)
from cloudflare import __version__ as sdk_version

from tests.clients.conftest import Platform

ACCOUNT = "local"
NAMESPACE = "production"
IS_4 = sdk_version.startswith("4.")

KEYS = ["plain", "with/slash", "per%cent", "query?", "hash#", "plus+", "ünïcode/😀", "a b", "..x", "a//b"]


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[Cloudflare]:
    with Cloudflare(base_url=platform.base_url, api_token=platform.token, max_retries=0) as client:
        yield client


@pytest.fixture
def name() -> str:
    """One that no other test uses."""
    return f"sdk-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def scripts(client: Cloudflare) -> Any:
    return client.workers_for_platforms.dispatch.namespaces.scripts


def upload(client: Cloudflare, platform: Platform, name: str, **metadata: Any) -> Any:
    """Each version sends the parts under other names."""
    content = platform.component.read_bytes()
    options: dict[str, Any] = {"account_id": ACCOUNT, "dispatch_namespace": NAMESPACE}
    document = {"main_module": "worker.wasm", **metadata}
    scripts = client.workers_for_platforms.dispatch.namespaces.scripts
    part = ("worker.wasm", content, "application/wasm")
    if IS_4:
        options |= {"files": {"worker.wasm": part}, "extra_body": {}}
        return scripts.update(name, metadata=json.dumps(document), **options)
    return scripts.update(name, metadata=document, files=[part], **options)


# Namespaces and scripts


def test_dispatch_namespaces(client: Cloudflare, name: str) -> None:
    namespaces = client.workers_for_platforms.dispatch.namespaces
    created = namespaces.create(account_id=ACCOUNT, name=name)
    assert created is not None and created.namespace_name == name

    assert name in [each.namespace_name for each in namespaces.list(account_id=ACCOUNT)]
    renamed = client.put(
        f"/accounts/{ACCOUNT}/workers/dispatch/namespaces/{name}", body={"name": f"{name}-2"}, cast_to=object
    )
    assert renamed["result"]["namespace_name"] == f"{name}-2"  # type: ignore[index]
    found = namespaces.get(f"{name}-2", account_id=ACCOUNT)
    assert found is not None and found.namespace_id == created.namespace_id
    namespaces.delete(f"{name}-2", account_id=ACCOUNT)
    with pytest.raises(NotFoundError) as missing:
        namespaces.get(name, account_id=ACCOUNT)
    assert missing.value.errors[0].code == 100119


def test_a_script_from_upload_to_deletion(client: Cloudflare, platform: Platform, scripts: Any, name: str) -> None:
    where: dict[str, Any] = {"account_id": ACCOUNT, "dispatch_namespace": NAMESPACE}
    uploaded = upload(
        client,
        platform,
        name,
        bindings=[{"type": "plain_text", "name": "GREETING", "text": "hello"}],
        tags=["a", "b"],
        compatibility_date="2026-04-01",
    )
    assert uploaded.id == name
    assert platform.answer(name, "/env/GREETING") == "hello"

    assert scripts.get(name, **where).script.tags == ["a", "b"]
    assert scripts.content.get(name, **where).read() == platform.component.read_bytes()
    assert [(each.type, each.name) for each in scripts.bindings.get(name, **where)] == [("plain_text", "GREETING")]
    assert scripts.settings.get(name, **where).compatibility_date == "2026-04-01"
    assert list(scripts.tags.list(name, **where)) == ["a", "b"]
    assert list(scripts.tags.update(name, body=["c"], **where)) == ["c"]
    scripts.tags.delete("c", script_name=name, **where)
    assert list(scripts.tags.list(name, **where)) == []

    scripts.delete(name, **where)
    with pytest.raises(NotFoundError) as missing:
        scripts.get(name, **where)
    assert missing.value.errors[0].code == 10007


def test_settings_are_changed_without_an_upload(
    client: Cloudflare, platform: Platform, scripts: Any, name: str
) -> None:
    where: dict[str, Any] = {"account_id": ACCOUNT, "dispatch_namespace": NAMESPACE}
    upload(client, platform, name, bindings=[{"type": "plain_text", "name": "A", "text": "1"}])

    changed = scripts.settings.edit(name, settings={"limits": {"cpu_ms": 77}, "tags": ["x", "y"]}, **where)

    assert changed.limits.cpu_ms == 77
    assert list(changed.tags) == ["x", "y"]
    assert platform.answer(name, "/env/A") == "1"


def test_secrets_are_set_listed_and_deleted_and_never_shown(
    client: Cloudflare, platform: Platform, scripts: Any, name: str
) -> None:
    where: dict[str, Any] = {"account_id": ACCOUNT, "dispatch_namespace": NAMESPACE}
    upload(client, platform, name)

    stored = scripts.secrets.update(name, name="KEY", text="battery staple", type="secret_text", **where)

    assert "battery" not in stored.to_json()
    assert platform.answer(name, "/env/KEY") == "battery staple"
    assert [each.name for each in scripts.secrets.list(name, **where)] == ["KEY"]
    assert scripts.secrets.get("KEY", script_name=name, **where).name == "KEY"
    scripts.secrets.delete("KEY", script_name=name, **where)
    assert platform.answer(name, "/env/KEY") == "None"
    if not IS_4:
        changes = {each: {"name": each, "text": each.lower(), "type": "secret_text"} for each in ("ONE", "TWO")}
        scripts.secrets.bulk_update(name, secrets=changes, **where)
        scripts.secrets.bulk_update(name, secrets={"ONE": None}, **where)
        assert [each.name for each in scripts.secrets.list(name, **where)] == ["TWO"]


def test_bindings_are_kept_or_inherited(client: Cloudflare, platform: Platform, name: str) -> None:
    upload(
        client,
        platform,
        name,
        bindings=[
            {"type": "secret_text", "name": "KEY", "text": "secret"},
            {"type": "plain_text", "name": "OLD", "text": "value"},
        ],
    )
    upload(
        client,
        platform,
        name,
        keep_bindings=["secret_text"],
        bindings=[{"type": "inherit", "name": "NEW", "old_name": "OLD"}],
    )
    shown = [platform.answer(name, f"/env/{each}") for each in ("KEY", "NEW", "OLD")]
    assert shown == ["secret", "value", "None"]


def test_versions_and_deployments(client: Cloudflare, platform: Platform, name: str) -> None:
    for number in (1, 2):
        upload(client, platform, name, bindings=[{"type": "plain_text", "name": "N", "text": str(number)}])
    versions = client.workers.scripts.versions
    deployments = client.workers.scripts.deployments
    listed = list(versions.list(name, account_id=ACCOUNT))
    assert [each.number for each in listed] == [2, 1]
    # Raw: version 5.9 of the client cannot build its own model of the answer with the pydantic of today.
    first = versions.with_raw_response.get(listed[1].id, account_id=ACCOUNT, script_name=name).json()
    assert first["result"]["number"] == 1  # type: ignore[index]

    def deploy(*shares: tuple[str, float]) -> None:
        wanted = [{"version_id": version, "percentage": share} for version, share in shares]
        deployments.create(name, account_id=ACCOUNT, strategy="percentage", versions=wanted)

    deploy((listed[1].id, 100))
    assert platform.answer(name, "/env/N") == "1"
    deploy((listed[0].id, 50), (listed[1].id, 50))
    assert {platform.answer(name, "/env/N") for _ in range(40)} == {"1", "2"}
    with pytest.raises(BadRequestError):
        deploy((listed[0].id, 50), (listed[1].id, 49))


# KV


def test_kv_namespaces_and_every_kind_of_key(client: Cloudflare, name: str) -> None:
    kv = client.kv.namespaces
    created = kv.create(account_id=ACCOUNT, title=name)
    where: dict[str, Any] = {"account_id": ACCOUNT, "namespace_id": created.id}
    kv.update(created.id, account_id=ACCOUNT, title=f"{name} renamed") if not IS_4 else kv.update(
        namespace_id=created.id, account_id=ACCOUNT, title=f"{name} renamed"
    )
    assert f"{name} renamed" in [each.title for each in kv.list(account_id=ACCOUNT)]

    # Version 4 puts a key into the address as it is.
    keys = [key for key in KEYS if not (IS_4 and set("%?#") & set(key))]
    for key in keys:
        value: Any = f"value of {key}" if IS_4 else f"value of {key}".encode()
        kv.values.update(key, value=value, metadata=json.dumps({"of": key}), expiration_ttl=3600, **where)
    for key in keys:
        assert kv.values.get(key, **where).read().decode() == f"value of {key}"
        assert kv.metadata.get(key, **where) == {"of": key}
    assert {each.name for each in kv.keys.list(**where)} == set(keys)
    assert len(list(kv.keys.list(limit=10, prefix="p", **where))) == len([key for key in keys if key[0] == "p"])

    kv.values.delete("with/slash", **where)
    with pytest.raises(NotFoundError) as missing:
        kv.values.get("with/slash", **where)
    assert missing.value.errors[0].code == 10009
    kv.delete(created.id, account_id=ACCOUNT) if not IS_4 else kv.delete(namespace_id=created.id, account_id=ACCOUNT)
    with pytest.raises(NotFoundError) as missing:
        list(kv.keys.list(**where))
    assert missing.value.errors[0].code == 10013


def test_kv_in_bulk(client: Cloudflare, name: str) -> None:
    kv = client.kv.namespaces
    where: dict[str, Any] = {"account_id": ACCOUNT, "namespace_id": kv.create(account_id=ACCOUNT, title=name).id}
    entries: list[Any] = [{"key": f"k{number:04}", "value": str(number)} for number in range(1200)]
    entries += [{"key": "binary", "value": base64.b64encode(b"\x00\xff").decode(), "base64": True}]

    written = kv.bulk_update(body=entries, **where)

    assert written is not None and written.successful_key_count == 1201
    assert len(list(kv.keys.list(**where))) == 1201
    read = kv.bulk_get(keys=["k0001", "k1199", "missing"], **where)
    assert read is not None and read.values == {"k0001": "1", "k1199": "1199", "missing": None}
    kv.bulk_delete(body=[entry["key"] for entry in entries[:1200]], **where)
    assert [each.name for each in kv.keys.list(**where)] == ["binary"]
    assert kv.values.get("binary", **where).read() == b"\x00\xff"


def test_kv_in_bulk_as_json_passes_on_what_was_stored(client: Cloudflare, name: str) -> None:
    kv = client.kv.namespaces
    where: dict[str, Any] = {"account_id": ACCOUNT, "namespace_id": kv.create(account_id=ACCOUNT, title=name).id}
    exact = '{"id": 12345678901234567890123, "price": 1.10}'
    kv.bulk_update(body=[{"key": "exact", "value": exact}, {"key": "text", "value": "no JSON"}], **where)

    read = kv.with_raw_response.bulk_get(keys=["exact", "missing"], type="json", with_metadata=True, **where)

    assert f'"exact":{{"value":{exact},"metadata":null}}' in read.text()
    assert '"missing":null' in read.text()
    with pytest.raises(BadRequestError, match="non-json value"):
        kv.bulk_get(keys=["exact", "text"], type="json", **where)


# R2


def test_r2_buckets(client: Cloudflare, name: str) -> None:
    buckets = client.r2.buckets
    assert buckets.create(account_id=ACCOUNT, name=name).name == name
    with pytest.raises(ConflictError) as twice:
        buckets.create(account_id=ACCOUNT, name=name)
    assert twice.value.errors[0].code == 10004
    assert name in [each.name for each in buckets.list(account_id=ACCOUNT).buckets or ()]
    assert buckets.get(name, account_id=ACCOUNT).name == name
    buckets.delete(name, account_id=ACCOUNT)
    with pytest.raises(NotFoundError):
        buckets.get(name, account_id=ACCOUNT)


@pytest.mark.skipif(IS_4, reason="version 4 of the client has no objects")
def test_r2_objects(client: Cloudflare, name: str) -> None:
    buckets = client.r2.buckets
    buckets.create(account_id=ACCOUNT, name=name)
    where: dict[str, Any] = {"account_id": ACCOUNT, "bucket_name": name}
    for key in KEYS:
        buckets.objects.upload(key, f"object {key}".encode(), extra_headers={"Content-Type": "text/x-test"}, **where)
    for key in KEYS:
        assert buckets.objects.get(key, **where).read() == f"object {key}".encode()
    listed = list(buckets.objects.list(per_page=3, **where))
    assert sorted(each.key or "" for each in listed) == sorted(KEYS)
    assert listed[0].http_metadata is not None and listed[0].http_metadata.content_type == "text/x-test"
    with pytest.raises(ConflictError) as full:
        buckets.delete(name, account_id=ACCOUNT)
    assert full.value.errors[0].code == 10008
    for key in KEYS:
        buckets.objects.delete(key, **where)
    buckets.delete(name, account_id=ACCOUNT)


# D1


def test_d1(client: Cloudflare, name: str) -> None:
    database = client.d1.database
    created = database.create(account_id=ACCOUNT, name=name)
    id = str(created.uuid)

    def rows(sql: str, params: list[str] | None = None) -> list[Any]:
        more: dict[str, Any] = {"params": params} if params else {}
        pages = (
            list(database.query(id, account_id=ACCOUNT, sql=sql, **more))
            if not IS_4
            else list(database.query(database_id=id, account_id=ACCOUNT, sql=sql, **more))
        )
        return [page.results for page in pages]

    results = rows("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT); INSERT INTO t (x) VALUES ('a;b'), (NULL)")
    assert results == [[], []]
    assert rows("SELECT * FROM t WHERE x = ?", ["a;b"]) == [[{"id": 1, "x": "a;b"}]]
    raw: Any = (
        list(database.raw(id, account_id=ACCOUNT, sql="SELECT id, x FROM t"))
        if not IS_4
        else list(database.raw(database_id=id, account_id=ACCOUNT, sql="SELECT id, x FROM t"))
    )
    assert (raw[0].results.columns, raw[0].results.rows) == (["id", "x"], [[1, "a;b"], [2, None]])
    found = database.get(id, account_id=ACCOUNT) if not IS_4 else database.get(database_id=id, account_id=ACCOUNT)
    assert (found.name, found.num_tables) == (name, 1)
    with pytest.raises(BadRequestError) as wrong:
        rows("SELEKT 1")
    assert wrong.value.errors[0].code == 7500
    assert "syntax error" in str(wrong.value.errors[0].message)
    assert name in [each.name for each in database.list(account_id=ACCOUNT)]
    database.delete(id, account_id=ACCOUNT) if not IS_4 else database.delete(database_id=id, account_id=ACCOUNT)
    with pytest.raises(NotFoundError) as missing:
        rows("SELECT 1")
    assert missing.value.errors[0].code == 7404


# Resources and scripts


def test_a_script_binds_what_the_operator_created(client: Cloudflare, platform: Platform, name: str) -> None:
    kv = client.kv.namespaces.create(account_id=ACCOUNT, title=name)
    d1 = client.d1.database.create(account_id=ACCOUNT, name=name)
    value: Any = "from the API" if IS_4 else b"from the API"
    client.kv.namespaces.values.update("k", account_id=ACCOUNT, namespace_id=kv.id, value=value, metadata="{}")
    sql = "CREATE TABLE t (x); INSERT INTO t VALUES (1), (2), (3)"
    list(client.d1.database.query(database_id=str(d1.uuid), account_id=ACCOUNT, sql=sql))

    bindings = [
        {"type": "kv_namespace", "name": "KV", "namespace_id": kv.id},
        {"type": "d1", "name": "DB", "id": str(d1.uuid)},
    ]
    upload(client, platform, name, bindings=bindings)

    assert platform.answer(name, "/kv/k") == "from the API"
    assert platform.answer(name, "/d1") == "3"


# Tokens


def test_tokens_of_a_tenant_reach_the_tenant_alone(
    client: Cloudflare, platform: Platform, scripts: Any, name: str
) -> None:
    upload(client, platform, name)
    groups = {
        each["name"]: each["id"] for each in client.get("/user/tokens/permission_groups", cast_to=object)["result"]
    }  # type: ignore[index]
    policy: Any = {
        "effect": "allow",
        "resources": {f"cloister.tenant.{NAMESPACE}/{name}": "*"},
        "permission_groups": [{"id": groups["read"]}],
    }
    created: Any = client.user.tokens.create(name=name, policies=[policy])

    with Cloudflare(base_url=platform.base_url, api_token=created.value, max_retries=0) as limited:
        verified = limited.user.tokens.verify()
        assert verified is not None and verified.status == "active"
        own = limited.workers_for_platforms.dispatch.namespaces.scripts
        assert own.get(name, account_id=ACCOUNT, dispatch_namespace=NAMESPACE).script.id == name
        for refused in (
            lambda: own.get("somebody", account_id=ACCOUNT, dispatch_namespace=NAMESPACE),
            lambda: own.delete(name, account_id=ACCOUNT, dispatch_namespace=NAMESPACE),
            lambda: list(limited.workers_for_platforms.dispatch.namespaces.list(account_id=ACCOUNT)),
            lambda: limited.user.tokens.create(name="more", policies=[policy]),
        ):
            with pytest.raises(PermissionDeniedError):
                refused()
        without: Any = {"name": f"{name}-2", "policies": [{**policy, "permission_groups": [{"id": groups["data"]}]}]}
        updated: Any = client.user.tokens.update(created.id, **without, status="active")
        assert (updated.name, updated.status) == (f"{name}-2", "active")
        with pytest.raises(PermissionDeniedError):
            own.get(name, account_id=ACCOUNT, dispatch_namespace=NAMESPACE)
        disabled: Any = client.user.tokens.update(created.id, **without, status="disabled")
        assert disabled.status == "disabled"
        with pytest.raises((AuthenticationError, APIStatusError)):
            limited.user.tokens.verify()
        client.user.tokens.delete(created.id)
        with pytest.raises((AuthenticationError, APIStatusError)):
            limited.user.tokens.verify()
