"""Every error has one status and one code, and shows a caller nothing that is not the caller's to see."""

from __future__ import annotations

import json

import pytest

from runtime.dispatcher.errors import RemoteError, WorkerNotFound, answer_of, refusal
from runtime.dispatcher.framing import InvalidAnswer, InvalidRequest
from runtime.engine import errors as engine

CASES: list[tuple[BaseException, int, str]] = [
    (WorkerNotFound("a"), 404, "worker_not_found"),
    (InvalidRequest("why"), 400, "invalid_request"),
    (InvalidAnswer("why"), 502, "invalid_answer"),
    (RemoteError("ValueError", "secret"), 500, "exception"),
    (engine.GuestException("ValueError", "secret", "secret"), 500, "exception"),
    (engine.GuestTrapped("it crashed"), 500, "trap"),
    (engine.CpuLimitExceeded(50), 503, "limit.cpu"),
    (engine.WallTimeExceeded(50), 504, "limit.wall"),
    (engine.MemoryLimitExceeded(1 << 27), 503, "limit.memory"),
    (engine.HostCallLimitExceeded(50), 503, "limit.host_calls"),
    (engine.RequestBodyTooLarge(50), 413, "limit.request_body"),
    (engine.ResponseBodyTooLarge(50), 502, "limit.response_body"),
    (engine.ResponseHeadersTooLarge(50), 502, "limit.response_headers"),
    (engine.BindingLimitExceeded("limit.kv_storage", 507, "it is full"), 507, "limit.kv_storage"),
    (engine.TooManyRequests(50, 1), 429, "limit.requests"),
    (engine.TooBusy(1), 503, "limit.queue"),
    (engine.WorkerUnavailable("why"), 503, "unavailable"),
    (engine.WorkerStopped(), 503, "stopped"),
    (engine.CallerGone(), 503, "unavailable"),
    (engine.HostFault("it is our fault"), 500, "internal"),
    (OSError(2, "secret", "/secret"), 500, "internal"),
    (KeyError("secret"), 500, "internal"),
]


@pytest.mark.parametrize(("error", "status", "code"), CASES)
def test_an_error_is_a_status_and_a_json_body(error: BaseException, status: int, code: str) -> None:
    answered, headers, body = answer_of(refusal(error))

    assert (answered, json.loads(body)["code"]) == (status, code)
    assert json.loads(body)["error"]
    assert "content-type: application/json\n" in headers
    assert "secret" not in body


def test_every_error_of_the_engine_has_a_case() -> None:
    def leaves(kind: type[BaseException]) -> set[type[BaseException]]:
        below = kind.__subclasses__()
        return set().union(*map(leaves, below)) if below else {kind}

    assert leaves(engine.EngineError) <= {type(error) for error, _, _ in CASES}


def test_a_full_worker_says_when_to_come_back() -> None:
    assert "retry-after: 1\n" in answer_of(refusal(engine.TooBusy(0)))[1]


def test_a_missing_worker_is_named_to_the_operator_and_not_to_the_caller() -> None:
    error = WorkerNotFound("someone")

    assert str(error) == "Worker not found: someone"
    assert "someone" not in answer_of(refusal(error))[2]
