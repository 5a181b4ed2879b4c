"""What a worker learns of its bindings, its log, and the early answer."""

from __future__ import annotations

import json

import pytest

from host_bindings.body import BytesBody, Payload
from host_bindings.contract import Failure
from host_bindings.core import INTERFACES, environment, http, log
from host_bindings.payload import PAYLOAD


class ClosableBody(BytesBody):
    closed = False

    def close(self) -> None:
        self.closed = True


class Answers:
    """An invocation that keeps what it is answered with, once."""

    def __init__(self) -> None:
        self.given: tuple[int, str, Payload] | None = None

    def respond(self, status: int, headers: str, body: Payload) -> None:
        if self.given is not None:
            raise Failure("Error", "answered already")
        self.given = (status, headers, body)


def test_the_environment_names_bindings_but_not_what_stands_behind_them(guest):
    bindings = json.loads(environment.bindings(guest.context))

    assert bindings == {
        "KV": {"type": "kv_namespace"},
        "GREETING": {"type": "plain_text", "text": "hello"},
        "SETTINGS": {"type": "json", "json": {"colour": ["red"]}},
    }


def test_log_entries_reach_the_tenants_log(guest):
    log.write(guest.context, "debug", "two\nlines")

    assert guest.entries == [("debug", "two\nlines")]


def test_an_early_answer_reaches_the_call_that_is_being_handled(guest):
    guest.context.invocation = answers = Answers()

    http.respond(guest.context, (204, "x: y\n", None))

    assert answers.given == (204, "x: y\n", None)


def test_there_is_nothing_to_answer_outside_of_a_call(guest):
    with pytest.raises(Failure, match="No request"):
        http.respond(guest.context, (200, "", None))


@pytest.mark.parametrize("status", [0, 101, 199, 600, 65535])
def test_a_status_that_is_none_is_refused(guest, status):
    guest.context.invocation = Answers()

    with pytest.raises(Failure, match="200 to 599") as refused:
        http.respond(guest.context, (status, "", None))

    assert refused.value.name == "RangeError"


def test_the_body_of_a_refused_answer_is_closed(guest):
    guest.context.invocation = Answers()
    http.respond(guest.context, (200, "", None))
    body = ClosableBody(b"late")

    with pytest.raises(Failure, match="answered already"):
        http.respond(guest.context, (200, "", body))

    assert body.closed


@pytest.mark.parametrize(("value", "case"), [(None, "empty"), ("", "text"), (b"", "bytes"), (BytesBody(b""), "stream")])
def test_a_payloads_case_follows_from_its_python_type(value, case):
    assert PAYLOAD.choose is not None
    assert PAYLOAD.choose(value) == case


def test_the_interfaces_are_those_of_the_contract():
    assert [interface.name for interface in INTERFACES] == [
        "cloister:worker/types@0.1.0",
        "cloister:worker/environment@0.1.0",
        "cloister:worker/log@0.1.0",
        "cloister:worker/http@0.1.0",
    ]
