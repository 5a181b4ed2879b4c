"""What a bad upload gets: a 4xx that says what is wrong, and the running version untouched."""

from __future__ import annotations

import json

import pytest
import wasmtime

from tests.e2e.server import SCRIPTS, Server, file, multipart

MIB = 1024 * 1024


def wat(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


CORE_MODULE = wat("(module)")
NO_HANDLER = wat("(component)")
FOREIGN_IMPORT = wat('(component (import "evil:host/api@1.0.0" (instance (export "own-everything" (func)))))')
WRONG_TYPE = wat('(component (import "cloister:worker/kv@0.1.0" (instance (export "get" (func)))))')

BAD_COMPONENTS = {
    "empty": (b"", ""),
    "not wasm": (b"#!/bin/sh\necho hello\n", "WebAssembly"),
    "core module": (CORE_MODULE, "module"),
    "no handler": (NO_HANDLER, "handler"),
    "import outside of the contract": (FOREIGN_IMPORT, "evil:host/api"),
    "wrong type of an import": (WRONG_TYPE, "cloister:worker/kv"),
    "too large": (CORE_MODULE + bytes(64 * MIB), "large"),
}


@pytest.mark.parametrize("kind", BAD_COMPONENTS)
def test_a_bad_component_is_refused_and_nothing_changes(platform: Server, kind: str) -> None:
    component, said = BAD_COMPONENTS[kind]
    before = platform.control("GET", f"{SCRIPTS}/user1").json()["result"]

    reply = platform.deploy("user1", component)

    assert 400 <= reply.status < 500
    answer = reply.json()
    assert answer["success"] is False
    assert answer["result"] is None
    assert said.lower() in answer["errors"][0]["message"].lower()
    assert platform.control("GET", f"{SCRIPTS}/user1").json()["result"] == before
    assert platform.request("GET", "/stats").status == 200


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_truncated_component_is_refused(platform: Server, share: float, demo_component: bytes) -> None:
    reply = platform.deploy("truncated", demo_component[: int(len(demo_component) * share)])

    assert 400 <= reply.status < 500
    assert reply.json()["errors"][0]["message"]
    assert platform.request("GET", "/", user="truncated").status == 404


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"main_module": 5}',
        b'{"main_module": "other.wasm"}',
        b'{"main_module": "worker.wasm", "bindings": [{"type": "kv_namespace", "name": "A"}]}',
        b'{"main_module": "worker.wasm", "bindings": [{"type": "nonsense", "name": "A"}]}',
        b'{"main_module": "worker.wasm", "limits": {"cpu_ms": -1}}',
    ],
)
def test_bad_metadata_is_refused(platform: Server, metadata: bytes) -> None:
    body, content_type = multipart(
        [
            file("metadata", "", metadata, "application/json"),
            file("worker.wasm", "worker.wasm", NO_HANDLER, "application/wasm"),
        ]
    )

    reply = platform.control("PUT", f"{SCRIPTS}/bad-metadata", headers={"Content-Type": content_type}, body=body)

    assert 400 <= reply.status < 500
    assert reply.json()["success"] is False


@pytest.mark.parametrize("name", ["UPPER", "a%2Fb", "..%2F..%2Fx", "a" * 64, "%E2%80%AEx", "-a"])
def test_a_bad_name_is_refused(platform: Server, name: str, demo_component: bytes) -> None:
    reply = platform.deploy(name, demo_component[:1000])

    assert 400 <= reply.status < 500
    assert reply.json()["success"] is False


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic dXNlcjpwYXNz"])
def test_without_the_token_nothing_is_told(platform: Server, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}

    reply = platform.control("GET", SCRIPTS, headers={"Authorization": "", **headers})

    assert reply.status in (400, 401, 403)
    assert json.loads(reply.body)["success"] is False


def test_the_management_api_is_not_on_the_tenants_port(platform: Server) -> None:
    assert platform.request("GET", SCRIPTS).status == 404


def test_tenants_are_listed_shown_and_removed(platform: Server, demo_component: bytes) -> None:
    deployed = platform.deploy("short-lived", demo_component, tags=["test"])
    listed = platform.control("GET", SCRIPTS).json()["result"]
    removed = platform.delete("short-lived")

    assert (deployed.status, deployed.json()["success"]) == (200, True)
    assert deployed.json()["result"]["tags"] == ["test"]
    assert {"user1", "user2", "short-lived"} <= {script["id"] for script in listed}
    assert removed.status == 200
    assert platform.request("GET", "/", user="short-lived").status == 404
    assert platform.delete("short-lived").status == 404
