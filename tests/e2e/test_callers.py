"""Who may call, and whom: the real server with each way of finding the tenant."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jwt
import pytest

from guest_sdk.build import build
from host_bindings import WIT_DIRECTORY
from host_bindings.scope import Tenant
from runtime.registry import Registry, load_seal
from runtime.settings import read_settings
from tests.components import GUESTS
from tests.e2e.server import ROOT, Reply, Server, start

SECRET = "a secret of at least thirty-two bytes"
LATER = 32_000_000_000
TENANTS = ("acme", "other")

UNAUTHORIZED = (401, "unauthorized")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with two tenants whose workers answer `/headers` with what they got."""
    data = tmp_path_factory.mktemp("callers") / "data"
    component = build(GUESTS / "rpc_worker", wit_directory=WIT_DIRECTORY).read_bytes()
    with start(data) as server:
        for name in TENANTS:
            reply = server.deploy(name, component)
            assert reply.status == 200, reply.text
    return data


@pytest.fixture(scope="module")
def proven(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes the tenant from signed tokens."""
    key = tmp_path_factory.mktemp("key") / "jwt.secret"
    key.write_text(SECRET)
    with start(deployed, resolver="jwt", jwt_algorithm="HS256", jwt_key_file=key, jwt_claim="tenant") as server:
        yield server


def headers_of(reply: Reply) -> dict[str, str]:
    """The request's headers as the worker saw them."""
    assert reply.status == 200, reply.text
    return dict(reply.json()["headers"])


def token(tenant: str, secret: str = SECRET) -> dict[str, str]:
    return {"Authorization": f"Bearer {jwt.encode({'tenant': tenant, 'exp': LATER}, secret, 'HS256')}"}


def test_a_signed_token_opens_its_tenant_and_stays_with_the_platform(proven: Server) -> None:
    reply = proven.request("GET", "/headers", user=None, headers={**token("acme"), "X-Other": "kept"})

    assert reply.status == 200
    seen = headers_of(reply)
    assert (seen["x-user-id"], seen["x-other"]) == ("acme", "kept")
    assert "authorization" not in seen


@pytest.mark.parametrize("spelling", ["X-User-ID", "X_User_ID", "x-user_id"])
def test_a_name_in_the_header_changes_nothing(proven: Server, spelling: str) -> None:
    reply = proven.request("GET", "/headers", user=None, headers={**token("acme"), spelling: "other"})

    assert {name: value for name, value in headers_of(reply).items() if "user" in name} == {"x-user-id": "acme"}


def test_the_connection_header_cannot_take_the_name_away(proven: Server) -> None:
    reply = proven.request("GET", "/headers", user=None, headers={**token("acme"), "Connection": "x-user-id, close"})

    assert headers_of(reply)["x-user-id"] == "acme"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, token("acme", "x" * 32)])
def test_without_a_good_token_nothing_is_open(proven: Server, headers: dict[str, str]) -> None:
    reply = proven.request("GET", "/headers", user="acme", headers=headers)

    assert (reply.status, reply.json()["code"]) == UNAUTHORIZED
    assert reply.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("tenant", ["missing", "../acme", "a\nx-evil: 1", "ACME", "é"])
def test_a_token_for_nobody_is_404(proven: Server, tenant: str) -> None:
    assert proven.request("GET", "/headers", user=None, headers=token(tenant)).status == 404


def create_key(data: Path, *permissions: str, tenant: str) -> tuple[str, str]:
    """A token for a tenant, made in the registry: its id and its value."""

    async def create() -> tuple[str, str]:
        settings = read_settings({}, data=data)
        registry = Registry(settings.registry_path, seal=load_seal(settings))
        await registry.open()
        try:
            made, value = await registry.tokens.create("key", frozenset(permissions), Tenant("production", tenant))  # type: ignore[arg-type]
            return made.id, value
        finally:
            await registry.close()

    return asyncio.run(create())


def test_a_key_opens_its_tenant_until_it_is_revoked(deployed: Path) -> None:
    id, value = create_key(deployed, "call", tenant="acme")
    _, deploy_token = create_key(deployed, "read", "deploy", "data", tenant="acme")

    with start(deployed, resolver="key") as server:
        reply = server.request("GET", "/headers", user="other", headers={"Authorization": f"Bearer {value}"})
        assert (reply.status, headers_of(reply)["x-user-id"]) == (200, "acme")
        # A token of the management API is not a key, and the operator's own token is not one either.
        for wrong in (deploy_token, value[:-1], value + "x"):
            reply = server.request("GET", "/", user="acme", headers={"Authorization": f"Bearer {wrong}"})
            assert (reply.status, reply.json()["code"]) == UNAUTHORIZED
        assert value not in server.log.read_text()

    async def revoke() -> None:
        settings = read_settings({}, data=deployed)
        registry = Registry(settings.registry_path, seal=load_seal(settings))
        await registry.open()
        assert await registry.tokens.delete(id)
        await registry.close()

    asyncio.run(revoke())
    with start(deployed, resolver="key") as server:
        reply = server.request("GET", "/", user=None, headers={"Authorization": f"Bearer {value}"})
        assert (reply.status, reply.json()["code"]) == UNAUTHORIZED


@pytest.mark.parametrize(
    ("settings", "path", "headers"),
    [
        ({"resolver": "host", "tenant_domain": "workers.test"}, "/headers", {"Host": "acme.workers.test"}),
        ({"trusted_proxies": "127.0.0.0/8"}, "/headers", {"X-User-ID": "acme"}),
    ],
)
def test_a_host_name_or_a_proxys_header_names_the_tenant(
    deployed: Path, settings: dict[str, str], path: str, headers: dict[str, str]
) -> None:
    with start(deployed, **settings) as server:
        reply = server.request("GET", path, user=None, headers=headers)
        assert (reply.status, headers_of(reply)["x-user-id"]) == (200, "acme")


def test_a_path_names_the_tenant_and_reaches_it_unchanged(deployed: Path) -> None:
    with start(deployed, resolver="path") as server:
        reply = server.request("GET", "/acme/headers?x=1", user="other")
        assert headers_of(reply)["x-user-id"] == "acme"
        assert reply.json()["url"].endswith("/acme/headers?x=1")
        assert server.request("GET", "/", user="acme").json()["code"] == "missing_user"
        assert server.request("GET", "/missing/headers", user="acme").json()["code"] == "worker_not_found"


def test_who_is_no_proxy_is_turned_away(deployed: Path) -> None:
    with start(deployed, trusted_proxies="192.0.2.0/24") as server:
        reply = server.request("GET", "/headers", user="acme")
        assert (reply.status, reply.json()["code"]) == (403, "untrusted_caller")


DISPATCH_CODE = """
from workers import Response

async def fetch(request, env):
    return Response(f"{request.headers.get('x-user-id')} {request.headers.get('authorization')}")
"""


def test_dispatch_code_is_told_the_name_that_was_proven(deployed: Path, tmp_path: Path) -> None:
    key, code = tmp_path / "jwt.secret", tmp_path / "dispatcher.py"
    key.write_text(SECRET)
    code.write_text(DISPATCH_CODE)
    settings = {"resolver": "jwt", "jwt_algorithm": "HS256", "jwt_key_file": key, "jwt_claim": "tenant"}
    with start(deployed, dispatcher=code, **settings) as server:
        assert server.request("GET", "/", user="other", headers=token("acme")).text == "acme None"
        assert server.request("GET", "/", user="other").status == 401


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "claim that any caller can make"),
        ({"CLOISTER_RESOLVER": "path"}, "anybody can call every tenant"),
        ({"CLOISTER_RESOLVER": "host"}, "tenant_domain"),
        ({"CLOISTER_RESOLVER": "jwt"}, "jwt_key_file"),
        ({"CLOISTER_RESOLVER": "word"}, "one of header, host, path, key, jwt"),
        ({"CLOISTER_TRUSTED_PROXIES": "proxy.example"}, "addresses or networks"),
    ],
)
def test_strangers_are_not_served_unproven(tmp_path: Path, settings: dict[str, str], says: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "runtime.cli.main", "serve", "--host", "0.0.0.0", "--port", "0", "--admin-port", "0"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "CLOISTER_DATA": str(tmp_path / "data"), **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert finished.returncode == 2
    assert says in " ".join(finished.stderr.split())


@contextmanager
def reachable(data: Path, **settings: object) -> Iterator[Server]:
    with start(data, host="0.0.0.0", **settings) as server:
        yield server


def test_strangers_are_served_who_prove_themselves(deployed: Path, tmp_path: Path) -> None:
    key = tmp_path / "jwt.secret"
    key.write_text(SECRET)
    with reachable(deployed, resolver="jwt", jwt_algorithm="HS256", jwt_key_file=key, jwt_claim="tenant") as server:
        assert server.request("GET", "/headers", user=None, headers=token("acme")).status == 200
