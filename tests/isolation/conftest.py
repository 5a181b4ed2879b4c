"""A server with tenants that make any call of the contract that they are asked to make."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from tests.components import raw_component
from tests.e2e.server import Server, start

Step = Sequence[object]
Bindings = Sequence[Mapping[str, object]]


def storage(names: str, ids: str) -> list[dict[str, object]]:
    """A KV, an R2 and a D1 binding whose names end in `names` and whose resources are called `ids`."""
    return [
        {"type": "kv_namespace", "name": f"KV{names}", "namespace_id": ids},
        {"type": "r2_bucket", "name": f"R2{names}", "bucket_name": ids},
        {"type": "d1", "name": f"D1{names}", "id": ids},
    ]


class Tenants:
    """Deploys tenants and lets them make calls."""

    def __init__(self, server: Server, component: bytes) -> None:
        self.server = server
        self._component = component

    def deploy(self, name: str, bindings: Bindings) -> Callable[..., list[Any]]:
        """Gives a function that lets the tenant make calls, [function, argument, …] each, in one request."""
        reply = self.server.deploy(name, self._component, bindings)
        assert reply.status == 200, reply.text

        def call(*steps: Step) -> list[Any]:
            reply = self.server.request("POST", "/", user=name, body=json.dumps(steps))
            assert reply.status == 200, reply.text
            results: list[Any] = reply.json()
            return results

        return call


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    with start(tmp_path_factory.mktemp("isolation") / "data") as server:
        yield Tenants(server, raw_component("intruder").read_bytes())


VICTIM_STORAGE = storage("_OF_VICTIM", "victims-own")


@pytest.fixture(scope="module")
def victim(tenants: Tenants) -> Callable[..., list[Any]]:
    """A tenant with a secret in each of its stores."""
    call = tenants.deploy("victim", [*VICTIM_STORAGE, {"type": "secret_text", "name": "TOKEN", "text": "secret-token"}])
    results = call(
        ["kv.put", "KV_OF_VICTIM", "secret", "secret-in-kv"],
        ["kv.put", "KV_OF_VICTIM", "secret-2", "secret-in-kv"],
        ["r2.put", "R2_OF_VICTIM", "secret", "secret-in-r2"],
        ["r2.put", "R2_OF_VICTIM", "secret-2", "secret-in-r2"],
        ["d1.exec", "D1_OF_VICTIM", "CREATE TABLE secret (value TEXT)"],
        ["d1.query", "D1_OF_VICTIM", "INSERT INTO secret VALUES (?)", ["secret-in-d1"]],
        ["keep", "secret-in-memory"],
    )
    assert not [result for result in results if "error" in result]
    return call
