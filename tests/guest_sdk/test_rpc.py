"""Values of remote calls: each comes out as it went in, and what is not one is refused."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_bindings.body import BytesBody
from workers import File, ReadableStream, Request, Response, rpc

KEYS = st.text() | st.sampled_from(["$", "$$", "$date", "$attachment", "$response", "$$attachment", "$bytes"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9000, 1, 1)).map(
        lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
    )
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20)


@given(VALUES)
def test_a_value_comes_out_as_it_went_in(value: Any) -> None:
    text, attachments = rpc.encode(value)

    text.encode()  # has UTF-8
    assert near(rpc.decode(text, attachments), value)


@given(VALUES)
def test_long_bytes_are_bytes_also_if_they_travel_as_streams(value: Any) -> None:
    text, attachments = rpc.encode(value)
    streams = [BytesBody(content) if isinstance(content, bytes) else content for content in attachments]

    assert near(receive(text, streams), value)


def receive(text: str, attachments: list[Any]) -> Any:
    """What a dispatcher does: bytes that came as a stream are read, once each, before the value is made."""
    for index in rpc.bytes_attached(text):
        attachments[index] = asyncio.run(attachments[index].read_all(10**6))
    return rpc.decode(text, attachments)


def near(found: Any, value: Any) -> bool:
    """Equal, types included; dates to a millisecond's rounding."""
    if isinstance(value, datetime):
        return isinstance(found, datetime) and abs(found - value) < timedelta(milliseconds=1)
    if isinstance(value, dict):
        return found.keys() == value.keys() and all(near(found[key], value[key]) for key in value)
    if isinstance(value, list):
        return len(found) == len(value) and all(map(near, found, value))
    return type(found) is type(value) and bool(found == value)


def test_plain_values_are_plain_json() -> None:
    text, attachments = rpc.encode({"a": [1, "ü", None]})

    assert json.loads(text) == {"a": [1, "ü", None]}
    assert attachments == []


def test_tuples_become_lists() -> None:
    assert rpc.decode(*rpc.encode([(1, (2,))])) == [[1, [2]]]


def test_a_stream_is_passed_on_and_not_read() -> None:
    source = BytesBody(b"abc")

    text, attachments = rpc.encode({"stream": ReadableStream(source)})
    received = rpc.decode(text, attachments)

    assert attachments == [source]
    assert isinstance(received["stream"], ReadableStream)
    assert asyncio.run(received["stream"].read()) == b"abc"


def test_a_stream_is_no_bytes() -> None:
    text, attachments = rpc.encode(ReadableStream(BytesBody(b"abc")))

    assert rpc.bytes_attached(text) == []
    assert isinstance(rpc.decode(text, attachments), ReadableStream)


@pytest.mark.parametrize("body", [None, "text", b"\xff", BytesBody(b"streamed")])
def test_a_response_comes_out_as_it_went_in(body: Any) -> None:
    response = Response(body, status=201, headers=[("set-cookie", "a"), ("set-cookie", "b")])

    received = rpc.decode(*rpc.encode([response]))[0]

    assert isinstance(received, Response)
    assert received.status == 201
    assert received.headers.get_all("set-cookie") == ["a", "b"]
    expected = {None: b"", "text": b"text", b"\xff": b"\xff"}.get(
        body if not isinstance(body, BytesBody) else 0, b"streamed"
    )
    assert asyncio.run(received.bytes()) == expected


def test_a_file_is_sent_as_a_stream() -> None:
    received = rpc.decode(*rpc.encode(File(b"abc", "name")))

    assert isinstance(received, ReadableStream)
    assert asyncio.run(received.read()) == b"abc"


def test_a_stream_cannot_be_sent_twice() -> None:
    stream = ReadableStream(BytesBody(b"abc"))

    with pytest.raises(OSError, match="Body already used"):
        rpc.encode([stream, stream])


def test_texts_that_look_like_marks_are_texts() -> None:
    value = ['{"$bytes": 0}', {"a": '{"$bytes": 0}', "$bytes": 5}]
    text, attachments = rpc.encode(value)

    assert rpc.bytes_attached(text) == []
    assert rpc.decode(text, attachments) == value


@pytest.mark.parametrize("value", [object(), {1}, Request("http://a/"), lambda: None, 1j])
def test_other_things_cannot_be_sent(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be sent over RPC"):
        rpc.encode([value])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_has_not_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        rpc.encode(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises((TypeError, ValueError)):
        rpc.encode(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"$bytes": 1}',
        '{"$bytes": "0"}',
        '{"$attachment": 1}',
        '{"$attachment": -1}',
        '{"$attachment": "0"}',
        '{"$attachment": true}',
        '{"$attachment": null}',
        '{"$date": "today"}',
        '{"$date": 1e300}',
        '{"$date": null}',
        '{"$response": 5}',
        '{"$response": {}}',
        '{"$response": {"status": "200", "headers": "", "body": null}}',
        '{"$response": {"status": 99, "headers": "", "body": null}}',
        '{"$response": {"status": 99999, "headers": "", "body": null}}',
        '{"$response": {"status": 200, "headers": 5, "body": null}}',
        '{"$response": {"status": 200, "headers": "", "body": 5}}',
        '{"$response": {"status": 200, "headers": "", "body": {"a": 1}}}',
        '{"$response": {"status": 200, "headers": "", "body": {"$attachment": 9}}}',
        "[" * 100_000,
        '["$' + "[" * 100_000,
    ],
)
def test_a_hostile_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        rpc.decode(text, [b"x"])
