"""The OpenAPI document says what the server does: Schemathesis makes requests from it and compares the answers."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from runtime.control.application import ROUTES
from runtime.control.routes import BASE, Route
from tests.clients.conftest import Platform

EXAMPLES = 4
"""For each operation. Mostly names of things that are not there, and bodies of all kinds."""

# The second address of each script's route goes through the same code.
TESTED = [route for route in ROUTES if "/workers/scripts" not in route.path]


def identify(route: Route) -> str:
    return f"{route.method} {route.path}"


def send(platform: Platform, method: str, path: str, token: str | None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = Request(f"http://127.0.0.1:{platform.admin_port}{path}", None, headers, method=method)
    try:
        with urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read())
    except HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def document(platform: Platform) -> Any:
    status, document = send(platform, "GET", f"{BASE}/openapi.json", platform.token)
    assert status == 200
    return document


@pytest.fixture(scope="module")
def schema(platform: Platform, document: Any) -> Any:
    loaded = schemathesis.openapi.from_dict(document)
    loaded.config.update(base_url=f"http://127.0.0.1:{platform.admin_port}")
    return loaded


def test_the_document_has_every_route_and_no_other(document: Any) -> None:
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, BASE + route.path.replace("*}", "}")) for route in ROUTES}
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("route", TESTED, ids=identify)
def test_answers_are_what_the_document_says(platform: Platform, schema: Any, route: Route) -> None:
    operation = schema[BASE + route.path.replace("*}", "}")][route.method]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def run(case: Any) -> None:
        case.call_and_validate(
            headers={"Authorization": f"Bearer {platform.token}"},
            checks=[
                not_a_server_error,
                status_code_conformance,
                content_type_conformance,
                response_schema_conformance,
            ],
        )

    run()


@pytest.mark.parametrize("token", [None, "nobody's", "cloister_" + "0" * 32 + "_" + "A" * 43])
def test_no_route_answers_without_a_token_that_is_in_force(platform: Platform, token: str | None) -> None:
    for route in ROUTES:
        path = BASE + route.path.replace("*}", "}")
        for name in route.parameters:
            path = path.replace(f"{{{name}}}", quote(name))
        status, answer = send(platform, route.method, path, token)
        assert (status, answer["errors"][0]["code"]) == (401, 10000), identify(route)
