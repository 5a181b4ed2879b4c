"""Whose a resource is, who may reach it through the API, and what a tenant's token gets of everything else."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from yarl import URL

from host_bindings.scope import Tenant
from tests.runtime.control.service import NAMESPACES, SCRIPTS, Answer, Control, RunControl

ACCOUNT = "/client/v4/accounts/local"
KV = f"{ACCOUNT}/storage/kv/namespaces"
R2 = f"{ACCOUNT}/r2/buckets"
D1 = f"{ACCOUNT}/d1/database"
TOKENS = "/client/v4/user/tokens"
ALL = ["read", "deploy", "data"]


async def token(control: Control, tenant: str | None, *permissions: str) -> dict[str, str]:
    """Headers with a new token."""
    body: dict[str, Any] = {"name": "test", "permissions": list(permissions)}
    if tenant is not None:
        body["tenant"] = f"production/{tenant}"
    created = (await control.call("POST", TOKENS, json=body)).result
    return {"Authorization": f"Bearer {created['value']}"}


async def bind(control: Control, component: bytes, script: str, *bindings: dict[str, str], **options: Any) -> Answer:
    return await control.put(script, component, {"bindings": list(bindings)}, **options)


def kv(id: str) -> dict[str, str]:
    return {"type": "kv_namespace", "name": "KV", "namespace_id": id}


def bucket(name: str) -> dict[str, str]:
    return {"type": "r2_bucket", "name": "R2", "bucket_name": name}


async def stored_by(control: Control, script: str, key: str) -> bytes | None:
    """What a script's own binding KV holds."""
    found = control.registry.find("production", script)
    assert found is not None
    entry = await control.resources.scope(found.tenant, found.bindings).kv("KV").get(key)
    return entry.value if entry else None


def test_tenants_that_name_the_same_id_have_different_stores_and_the_operator_reaches_both(
    run_control: RunControl, component: bytes
) -> None:
    async def test(control: Control) -> None:
        for script in ("ann", "ben"):
            await bind(control, component, script, kv("cache"))
        listed = {each["title"]: each["id"] for each in (await control.call("GET", KV)).result}
        assert listed.keys() == {"production/ann/cache", "production/ben/cache"}

        await control.call("PUT", f"{KV}/{listed['production/ann/cache']}/values/k", data=b"ann's")

        assert await stored_by(control, "ann", "k") == b"ann's"
        assert await stored_by(control, "ben", "k") is None

    run_control(test)


def test_whatever_a_tenant_calls_its_keys_the_operator_reaches_them(run_control: RunControl, component: bytes) -> None:
    keys = ["a/../b", "../../etc/passwd", "a\r\nb", "\n", "\0", "?a=b#c", "%2e%2e", "a\\b", "\u202eb"]

    async def test(control: Control) -> None:
        await bind(control, component, "ann", kv("cache"), bucket("files"))
        ann = await token(control, "ann", *ALL)
        for key in keys:
            for path in (f"{KV}/cache/values", f"{R2}/files/objects"):
                address = URL(f"{path}/{quote(key, safe='')}", encoded=True)
                put = await control.call("PUT", address, data=key.encode(), headers=ann)
                got = await control.call("GET", address, headers=ann)
                gone = await control.call("DELETE", address, headers=ann)
                assert (put.status, got.text, gone.status) == (200, key, 200), (path, key)

    run_control(test)


def test_a_tenants_token_knows_the_tenants_resources_by_their_own_names_and_no_others(
    run_control: RunControl, component: bytes
) -> None:
    async def test(control: Control) -> None:
        await bind(control, component, "ann", kv("cache"), bucket("files"))
        await bind(control, component, "ben", kv("cache"), kv("private") | {"name": "KV2"}, bucket("files"))
        operators = (await control.call("POST", KV, json={"title": "operator's"})).result["id"]
        ids = {each["title"]: each["id"] for each in (await control.call("GET", KV)).result}
        ann = await token(control, "ann", *ALL)

        assert [each["id"] for each in (await control.call("GET", KV, headers=ann)).result] == ["cache"]
        await control.call("PUT", f"{KV}/cache/values/k", data=b"ann's", headers=ann)
        assert await stored_by(control, "ann", "k") == b"ann's"
        assert await stored_by(control, "ben", "k") is None
        assert (await control.call("PUT", f"{R2}/files/objects/o", data=b"x", headers=ann)).status == 200

        nothing = await control.call("GET", f"{KV}/nothing-at-all/keys", headers=ann)
        for id in (ids["production/ben/cache"], ids["production/ben/private"], operators, "private"):
            for method, path in (("GET", "keys"), ("GET", "values/k"), ("PUT", "values/k"), ("GET", "metadata/k")):
                answer = await control.call(method, f"{KV}/{id}/{path}", headers=ann)
                assert (answer.status, answer.code) == (nothing.status, nothing.code) == (404, 10013)
                assert answer.message.replace(id, "") == nothing.message.replace("nothing-at-all", "")
            assert (await control.call("DELETE", f"{KV}/{id}", headers=ann)).status == 404

    run_control(test)


def test_a_resource_of_the_platforms_is_bound_by_the_operators_deployment_and_not_by_a_tenants(
    run_control: RunControl, component: bytes
) -> None:
    async def test(control: Control) -> None:
        shared = (await control.call("POST", KV, json={"title": "shared"})).result["id"]
        await control.call("PUT", f"{KV}/{shared}/values/k", data=b"shared")
        ann, ben = await token(control, "ann", *ALL), await token(control, "ben", *ALL)

        stolen = await bind(control, component, "ben", kv(shared), headers=ben)
        await bind(control, component, "ann", kv(shared))

        assert stolen.status == 200 and stolen.body["messages"] == []
        assert await stored_by(control, "ben", "k") is None
        assert await stored_by(control, "ann", "k") == b"shared"
        # What the operator has given stays given when the tenant deploys by itself.
        await bind(control, component, "ann", kv(shared), headers=ann)
        assert await stored_by(control, "ann", "k") == b"shared"
        assert (await control.call("GET", f"{KV}/{shared}/values/k", headers=ann)).text == "shared"
        assert (await control.call("DELETE", f"{KV}/{shared}", headers=ann)).status == 403
        assert (await control.call("GET", f"{KV}/{shared}/values/k", headers=ben)).status == 404

    run_control(test)


def test_a_grant_that_was_taken_away_does_not_come_back_by_another_deployment(
    run_control: RunControl, component: bytes
) -> None:
    async def test(control: Control) -> None:
        shared = (await control.call("POST", KV, json={"title": "shared"})).result["id"]
        await control.call("PUT", f"{KV}/{shared}/values/k", data=b"shared")
        await bind(control, component, "ann", kv(shared))
        grants = f"{KV}/{shared}/grants"
        assert [each["script"] for each in (await control.call("GET", grants)).result] == ["ann"]

        await control.call("DELETE", f"{grants}/production/ann")
        assert await stored_by(control, "ann", "k") is None
        await bind(control, component, "ann", kv(shared))
        assert await stored_by(control, "ann", "k") is None
        await control.call("PUT", f"{grants}/production/ann")
        assert await stored_by(control, "ann", "k") == b"shared"

    run_control(test)


def test_a_bucket_whose_name_a_tenant_can_guess_takes_an_explicit_grant(
    run_control: RunControl, component: bytes
) -> None:
    async def test(control: Control) -> None:
        await control.call("POST", R2, json={"name": "backups"})
        await control.call("PUT", f"{R2}/backups/objects/o", data=b"the operator's")

        async def reads() -> bool:
            found = control.registry.find("production", "ann")
            assert found is not None
            scope = control.resources.scope(found.tenant, found.bindings)
            return await scope.r2("R2").head("o") is not None

        told = await bind(control, component, "ann", bucket("backups"))
        assert "grants/production/ann" in told.body["messages"][0]["message"]
        assert await reads() is False
        await control.call("PUT", f"{R2}/backups/grants/production/ann")
        assert await reads() is True

    run_control(test)


def test_what_a_script_binds_is_not_deleted_and_the_rest_goes_for_good(
    run_control: RunControl, component: bytes
) -> None:
    async def test(control: Control) -> None:
        shared = (await control.call("POST", KV, json={"title": "shared"})).result["id"]
        await bind(control, component, "ann", kv(shared), bucket("files"))
        refused = await control.call("DELETE", f"{KV}/{shared}")
        assert (refused.status, refused.code) == (409, 10230)
        assert "'ann' as 'KV'" in refused.message

        await bind(control, component, "ann", bucket("files"))
        assert (await control.call("DELETE", f"{KV}/{shared}")).status == 200
        assert (await control.call("GET", f"{KV}/{shared}")).status == 404

    run_control(test)


def test_a_purged_tenants_resources_are_off_the_list(run_control: RunControl, component: bytes) -> None:
    async def test(control: Control) -> None:
        await bind(control, component, "ann", kv("cache"))
        await control.call("DELETE", f"{SCRIPTS}/ann?purge_data=true")
        assert (await control.call("GET", KV)).result == []

    run_control(test)


FORBIDDEN: list[tuple[list[str], str, str]] = [
    (["data", "deploy"], "GET", f"{SCRIPTS}/ann"),
    (["read", "data"], "PUT", f"{SCRIPTS}/ann"),
    (["read", "data"], "DELETE", f"{SCRIPTS}/ann"),
    (["read", "data"], "PUT", f"{SCRIPTS}/ann/secrets"),
    (["read", "data"], "POST", f"{SCRIPTS}/ann/rollback"),
    (["read", "data"], "GET", f"{SCRIPTS}/ann/content"),
    (["read", "deploy"], "GET", f"{KV}/cache/values/k"),
    (["read", "deploy"], "POST", KV),
    (["read", "deploy"], "POST", f"{D1}/x/query"),
    (["read", "deploy"], "DELETE", f"{SCRIPTS}/ann?purge_data=true"),
    (ALL, "GET", NAMESPACES),
    (ALL, "POST", NAMESPACES),
    (ALL, "GET", SCRIPTS),
    (ALL, "DELETE", f"{SCRIPTS}?tags=a:yes"),
    (ALL, "GET", f"{SCRIPTS}/ben"),
    (ALL, "GET", f"{SCRIPTS}/nobody"),
    (ALL, "GET", f"{NAMESPACES}/nowhere/scripts/ann"),
    (ALL, "PUT", f"{SCRIPTS}/ben/secrets"),
    (ALL, "GET", TOKENS),
    (ALL, "POST", TOKENS),
    (ALL, "PUT", f"{KV}/cache/grants/production/ann"),
]


@pytest.mark.parametrize(("permissions", "method", "path"), FORBIDDEN)
def test_a_tenants_token_may_do_what_it_says_and_nothing_else(
    run_control: RunControl, component: bytes, permissions: list[str], method: str, path: str
) -> None:
    async def test(control: Control) -> None:
        await bind(control, component, "ann", kv("cache"))
        headers = await token(control, "ann", *permissions)
        answer = await control.call(method, path, headers=headers, data=json.dumps({}))
        assert (answer.status, answer.code) == (403, 9109), answer.text
        found = control.registry.find("production", "ann")
        assert found is not None and found.number == 1

    run_control(test)


def test_a_platforms_token_does_not_manage_tokens(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        headers = await token(control, None, *ALL)
        assert (await control.call("GET", NAMESPACES, headers=headers)).status == 200
        for method, path in (("GET", TOKENS), ("POST", TOKENS), ("DELETE", f"{TOKENS}/{'0' * 32}")):
            assert (await control.call(method, path, headers=headers, json={"name": "x"})).status == 403

    run_control(test)


BAD_TOKENS: list[tuple[dict[str, Any], str]] = [
    ({"permissions": []}, "at least one"),
    ({"permissions": ["write"]}, "'write' is none"),
    ({"permissions": ["read"], "tenant": "ann"}, "NAMESPACE/SCRIPT"),
    ({"permissions": ["read"], "expires_on": "2020-01-01T00:00:00Z"}, "over already"),
    ({"permissions": ["read"], "condition": {"request_ip": {"in": ["1.2.3.4"]}}}, "condition"),
    ({"policies": []}, "one thing"),
    ({"policies": [{"effect": "deny", "resources": {}, "permission_groups": []}]}, "allow"),
    (
        {"policies": [{"resources": {"com.example": "*"}, "permission_groups": [{"name": "read"}]}]},
        "no resource 'com.example'",
    ),
]


@pytest.mark.parametrize(("body", "sentence"), BAD_TOKENS)
def test_a_token_that_cannot_be_is_refused_with_the_reason(
    run_control: RunControl, body: dict[str, Any], sentence: str
) -> None:
    async def test(control: Control) -> None:
        answer = await control.call("POST", TOKENS, json={"name": "x", **body})
        assert answer.status == 400
        assert sentence in answer.message
        assert control.registry.tokens.all() == []

    run_control(test)


def test_a_token_follows_its_tenant_when_the_namespace_is_renamed(run_control: RunControl, component: bytes) -> None:
    async def test(control: Control) -> None:
        await bind(control, component, "ann", kv("cache"))
        headers = await token(control, "ann", *ALL)
        await control.call("PUT", f"{NAMESPACES}/production", json={"name": "live"})
        await control.registry.create_namespace("production")

        renamed = f"{NAMESPACES}/live/scripts/ann"
        assert (await control.call("GET", renamed, headers=headers)).status == 200
        assert (await control.call("GET", f"{SCRIPTS}/ann", headers=headers)).status == 403
        found = control.registry.find("live", "ann")
        assert found is not None and found.tenant == Tenant("production", "ann")

    run_control(test)
