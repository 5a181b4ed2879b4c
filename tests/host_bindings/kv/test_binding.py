"""What guests see of KV: each rule of Cloudflare's binding with its limit and its error text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from host_bindings.body import Body, BytesBody, Pipe
from host_bindings.kv.binding import BYTES_BYTES_MAX, TEXT_BYTES_MAX, VALUE_BYTES_MAX
from tests.host_bindings.kv.conftest import NOW, Guest
from tests.host_bindings.storage.faults import files_no_longer_than

TOO_LONG = "UTF-8 encoded length of 513 exceeds key length limit of 512."


class StreamOf(Body):
    """A stream whose length nobody knows."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.closed = False

    async def read(self, limit: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def close(self) -> None:
        self.closed = True


def listing(guest: Guest, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(guest.call("list", json.dumps(options) if options else ""))
    return found


def put_failure(guest: Guest, options: str) -> str:
    name, message = guest.failure("put", "key", "value", options)
    assert name == "Error" and message.startswith("KV PUT failed: ")
    return message.removeprefix("KV PUT failed: ")


# Keys


@pytest.mark.parametrize(("name", "arguments"), [("get", ("",)), ("put", ("value", "")), ("delete", ())])
def test_keys_that_are_refused(guest: Guest, name: str, arguments: tuple[str, ...]) -> None:
    assert guest.failure(name, "", *arguments) == ("TypeError", "Key name cannot be empty.")
    assert guest.failure(name, ".", *arguments) == ("TypeError", '"." is not allowed as a key name.')
    assert guest.failure(name, "..", *arguments) == ("TypeError", '".." is not allowed as a key name.')
    for key in ("x" * 513, "é" * 256 + "x"):
        assert guest.failure(name, key, *arguments) == ("Error", f"KV {name.upper()} failed: 414 {TOO_LONG}")


@pytest.mark.parametrize("key", ["x" * 512, "é" * 256, "...", "a/../b", "\0", "%2F", "//"])
def test_keys_that_are_allowed(guest: Guest, key: str) -> None:
    guest.put(key, "value")
    assert guest.get(key) == ("value", None)
    guest.call("delete", key)
    assert guest.get(key) is None


def test_a_binding_that_the_worker_does_not_have_is_refused(guest: Guest) -> None:
    for name, arguments in (("get", ("k", "")), ("put", ("k", "v", "")), ("delete", ("k",)), ("list", ("",))):
        kind, message = guest.failure(name, *arguments, binding="OTHER")
        assert kind == "TypeError" and "OTHER" in message


# Values


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        (None, ""),
        ("", ""),
        ("text \0 é 😀", "text \0 é 😀"),
        (b"as bytes", "as bytes"),
        (b"\xff\xfe", b"\xff\xfe"),
        (b"\xff" * BYTES_BYTES_MAX, b"\xff" * BYTES_BYTES_MAX),
        ("x" * TEXT_BYTES_MAX, "x" * TEXT_BYTES_MAX),
    ],
    ids=["empty", "empty text", "text", "UTF-8", "binary", "most bytes", "most text"],
)
def test_small_values_come_as_text_or_bytes(guest: Guest, stored: Any, found: Any) -> None:
    guest.put("key", stored)
    assert guest.get("key") == (found, None)


@pytest.mark.parametrize("stored", [b"\xff" * (BYTES_BYTES_MAX + 1), b"x" * (TEXT_BYTES_MAX + 1)])
def test_long_values_come_as_a_body(guest: Guest, stored: bytes) -> None:
    guest.put("key", stored)
    value, _ = guest.get("key")
    assert isinstance(value, BytesBody) and value.length == len(stored)


def test_a_stream_is_stored_and_closed(guest: Guest) -> None:
    stream = StreamOf(b"one ", b"two")
    guest.put("key", stream)
    assert stream.closed
    assert guest.get("key") == ("one two", None)


def test_a_value_of_25_mib_is_allowed_and_one_byte_more_is_not(guest: Guest) -> None:
    guest.put("key", b"x" * VALUE_BYTES_MAX)
    expected = ("Error", "KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400.")
    stream = StreamOf(b"x" * VALUE_BYTES_MAX, b"x")
    for value in ("x" * (VALUE_BYTES_MAX + 1), BytesBody(b"x" * (VALUE_BYTES_MAX + 1)), stream):
        assert guest.failure("put", "key", value, "") == expected
    assert stream.closed


def test_a_stream_that_breaks_off_leaves_the_old_value(guest: Guest) -> None:
    guest.put("key", "old")

    async def broken() -> Pipe:
        pipe = Pipe()
        await pipe.write(b"half")
        pipe.break_off("The client has gone.")
        return pipe

    pipe = guest._runner.run(broken())
    assert guest.failure("put", "key", pipe, "") == ("Error", "The client has gone.")
    assert guest.get("key") == ("old", None)


def test_a_stream_is_closed_when_the_call_is_refused(guest: Guest) -> None:
    for key, binding in (("", "KV"), ("key", "OTHER")):
        stream = StreamOf(b"x")
        guest.failure("put", key, stream, "", binding=binding)
        assert stream.closed


# get


def test_the_type_is_checked_only_if_the_key_exists(guest: Guest) -> None:
    assert guest.get("missing", '{"type": "blob"}') is None
    guest.put("key", "value")
    assert guest.failure("get", "key", '{"type": "blob"}') == (
        "TypeError",
        'Unknown response type. Possible types are "text", "arrayBuffer", "json", and "stream".',
    )
    for kind in ("text", "json", "arrayBuffer", "stream"):
        assert guest.get("key", json.dumps({"type": kind})) == ("value", None)


def test_cache_ttl_has_a_minimum(guest: Guest) -> None:
    guest.put("key", "value")
    assert guest.get("key", '{"cacheTtl": 30}') == ("value", None)
    assert guest.failure("get", "key", '{"cacheTtl": 10}') == (
        "Error",
        "KV GET failed: 400 Invalid cache_ttl of 10. Cache TTL must be at least 30.",
    )


@pytest.mark.parametrize("options", ["{", "[]", '"text"', "5", "[" * 100_000, "{}" + " " * 300_000, "9" * 5000])
def test_options_that_are_not_an_object_are_refused(guest: Guest, options: str) -> None:
    name, message = guest.failure("get", "key", options)
    assert name == "TypeError" and "options" in message


@pytest.mark.parametrize("options", ["null", "{}", '{"unknown": 1}', '{"type": null, "cacheTtl": null}'])
def test_unknown_and_null_options_are_ignored(guest: Guest, options: str) -> None:
    guest.put("key", "value", options)
    assert guest.get("key", options) == ("value", None)


# Expiry


@pytest.mark.parametrize(
    ("ttl", "message"),
    [
        ("0", "400 Invalid expiration_ttl of 0. Please specify integer greater than 0."),
        ("-1", "400 Invalid expiration_ttl of -1. Please specify integer greater than 0."),
        ("NaN", "400 Invalid expiration_ttl of 0. Please specify integer greater than 0."),
        ('"soon"', "400 Invalid expiration_ttl of 0. Please specify integer greater than 0."),
        ("59", "400 Invalid expiration_ttl of 59. Expiration TTL must be at least 60."),
        ("59.9", "400 Invalid expiration_ttl of 59. Expiration TTL must be at least 60."),
    ],
)
def test_times_to_live_that_are_refused(guest: Guest, ttl: str, message: str) -> None:
    assert put_failure(guest, f'{{"expirationTtl": {ttl}}}') == message


@pytest.mark.parametrize(
    ("expiration", "message"),
    [
        (0, "Please specify integer greater than the current number of seconds since the UNIX epoch."),
        (NOW, "Please specify integer greater than the current number of seconds since the UNIX epoch."),
        (NOW + 1, "Expiration times must be at least 60 seconds in the future."),
        (NOW + 59, "Expiration times must be at least 60 seconds in the future."),
    ],
)
def test_expirations_that_are_refused(guest: Guest, expiration: int, message: str) -> None:
    options = json.dumps({"expiration": expiration})
    assert put_failure(guest, options) == f"400 Invalid expiration of {expiration}. {message}"


@pytest.mark.parametrize("option", ["expiration", "expirationTtl", "cacheTtl", "limit"])
@pytest.mark.parametrize("number", ["2147483648", "-2147483649", "1700000000000", "1e400", "1" + "0" * 400])
def test_numbers_must_have_32_bits(guest: Guest, option: str, number: str) -> None:
    options = f'{{"{option}": {number}}}'
    calls: dict[str, tuple[Any, ...]] = {
        "expiration": ("put", "key", "value", options),
        "expirationTtl": ("put", "key", "value", options),
        "cacheTtl": ("get", "key", options),
        "limit": ("list", options),
    }
    assert guest.failure(*calls[option]) == (
        "TypeError",
        "Value out of range. Must be between -2147483648 and 2147483647 (inclusive).",
    )


@pytest.mark.parametrize(
    ("options", "expiration"),
    [
        ('{"expirationTtl": 60}', NOW + 60),
        ('{"expirationTtl": 60.9}', NOW + 60),
        ('{"expirationTtl": "61"}', NOW + 61),
        (f'{{"expiration": {NOW + 60}}}', NOW + 60),
        (f'{{"expiration": {NOW + 500}, "expirationTtl": 100}}', NOW + 100),
        ('{"expiration": 2147483647}', 2147483647),
    ],
)
def test_expiry_is_listed_as_an_absolute_time(guest: Guest, options: str, expiration: int) -> None:
    guest.put("key", "value", options)
    assert listing(guest)["keys"] == [{"name": "key", "expiration": expiration}]


def test_a_value_expires_on_the_second(guest: Guest) -> None:
    guest.put("key", "value", '{"expirationTtl": 60}')
    guest.clock.now = NOW + 59.999
    assert guest.get("key") == ("value", None)
    guest.clock.now = NOW + 60
    assert guest.get("key") is None
    assert listing(guest)["keys"] == []


# Metadata


@pytest.mark.parametrize("metadata", [False, 0, "", [], {}, {"a": [1, 2.5, None, "é"]}, "x" * 1022, 10**30])
def test_metadata_is_any_json_value(guest: Guest, metadata: Any) -> None:
    guest.put("key", "value", json.dumps({"metadata": metadata}))
    _, found = guest.get("key")
    assert json.loads(found) == metadata
    assert listing(guest)["keys"] == [{"name": "key", "metadata": metadata}]


def test_null_metadata_is_none(guest: Guest) -> None:
    guest.put("key", "value", '{"metadata": 1}')
    guest.put("key", "value", '{"metadata": null}')
    assert guest.get("key") == ("value", None)
    assert listing(guest)["keys"] == [{"name": "key"}]


def test_metadata_is_measured_as_json(guest: Guest) -> None:
    for metadata in ("x" * 1023, "é" * 511 + "x"):
        message = put_failure(guest, json.dumps({"metadata": metadata}))
        assert message == "413 Metadata length of 1025 exceeds limit of 1024."
    guest.put("key", "value", json.dumps({"metadata": "é" * 511}))


def test_metadata_with_half_a_character_is_kept_as_json_writes_it(guest: Guest) -> None:
    guest.put("key", "value", '{"metadata": "\\ud800"}')
    assert guest.get("key") == ("value", '"\\ud800"')


# get-many


def test_many_keys_at_once(guest: Guest) -> None:
    guest.put("a", "1", '{"metadata": {"m": 1}}')
    guest.put("10", '{"n": 12345678901234567890123}')
    keys = ["10", "missing", "a"]
    assert json.loads(guest.call("get-many", keys, "")) == {
        "10": '{"n": 12345678901234567890123}',
        "missing": None,
        "a": "1",
    }
    found = guest.call("get-many", keys, '{"type": "json", "withMetadata": true}')
    assert json.loads(found) == {
        "10": {"value": {"n": 12345678901234567890123}, "metadata": None},
        "missing": None,
        "a": {"value": 1, "metadata": {"m": 1}},
    }


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        (["k"] * 101, "", "400 You can request a maximum of 100 keys"),
        ([], "", "400 You must request a minimum of 1 key"),
        (["a"], '{"type": "arrayBuffer"}', '400 "arrayBuffer" is not a valid type. Use "json" or "text"'),
        (
            ["text"],
            '{"type": "json"}',
            "400 At least one of the requested keys corresponds to a non-json value",
        ),
        (["a", ""], "", "400 Key names must not be empty"),
        (["a", "x" * 513], "", f"414 {TOO_LONG}"),
        (["a"], '{"cacheTtl": 29}', "400 Invalid cache_ttl of 29. Cache TTL must be at least 30."),
        (["big1", "big2"], "", "413 Total size of request exceeds the limit of 25MB"),
    ],
)
def test_many_keys_that_are_refused(guest: Guest, keys: list[str], options: str, message: str) -> None:
    guest.put("text", "not JSON")
    if keys[:1] == ["big1"]:
        guest.put("big1", b"x" * VALUE_BYTES_MAX)
        guest.put("big2", b"x")
    assert guest.failure("get-many", keys, options) == ("Error", f"KV GET_BULK failed: {message}")


# list


def test_a_listing_of_everything_has_no_cursor(guest: Guest) -> None:
    assert guest.call("list", "") == '{"keys":[],"list_complete":true,"cacheStatus":null}'
    guest.put("key", "value")
    assert listing(guest) == {"keys": [{"name": "key"}], "list_complete": True, "cacheStatus": None}


def test_pages(guest: Guest) -> None:
    for n in range(5):
        guest.put(f"p/{n}", "")
    guest.put("q", "")
    first = listing(guest, prefix="p/", limit=3)
    assert [key["name"] for key in first["keys"]] == ["p/0", "p/1", "p/2"]
    assert first["list_complete"] is False
    second = listing(guest, prefix="p/", limit=2, cursor=first["cursor"])
    assert [key["name"] for key in second["keys"]] == ["p/3", "p/4"]
    assert second["list_complete"] is True and "cursor" not in second


@pytest.mark.parametrize("limit", [0, -5, None, 1000])
def test_limits_that_are_none_or_less_mean_the_default(guest: Guest, limit: int | None) -> None:
    guest.put("key", "value")
    assert len(listing(guest, limit=limit, cursor="", prefix="")["keys"]) == 1


def test_listings_that_are_refused(guest: Guest) -> None:
    assert guest.failure("list", '{"limit": 1001}') == (
        "Error",
        "KV GET failed: 400 Invalid key_count_limit of 1001. Please specify an integer less than 1000.",
    )
    assert guest.failure("list", json.dumps({"prefix": "x" * 513})) == ("Error", f"KV GET failed: 414 {TOO_LONG}")


# The storage


def test_a_storage_that_fails_is_an_error_of_the_operation(guest: Guest) -> None:
    guest.put("key", "old")
    with files_no_longer_than(128 * 1024):
        name, message = guest.failure("put", "key", b"x" * 1_000_000, "")
    assert (name, message) == ("Error", "KV PUT failed: 500 The storage failed.")
    assert guest.get("key") == ("old", None)


def test_of_many_keys_the_first_that_is_refused_counts(guest: Guest) -> None:
    guest.put("text", "x")
    not_json = "KV GET_BULK failed: 400 At least one of the requested keys corresponds to a non-json value"
    empty = "KV GET_BULK failed: 400 Key names must not be empty"

    assert guest.failure("get-many", ["text", ""], '{"type": "json"}') == ("Error", not_json)
    assert guest.failure("get-many", ["", "text"], '{"type": "json"}') == ("Error", empty)


def test_json_that_only_javascript_reads(guest: Guest) -> None:
    guest.put("infinite", "[1e400]")
    guest.put("half", '"\\ud800 \\\\uDEAD"')
    guest.put("broken", b'"\xff"')

    found = json.loads(guest.call("get-many", ["infinite", "half", "broken"], '{"type": "json"}'))

    assert found == {"infinite": [float("inf")], "half": "\ud800 \\uDEAD", "broken": "\ufffd"}


@pytest.mark.parametrize("value", [b"\0" * 6_000_000, b"\xff" * 9_000_000], ids=["escapes", "replacements"])
def test_many_values_that_are_too_large_as_json_are_refused(guest: Guest, value: bytes) -> None:
    guest.put("key", value)

    name, message = guest.failure("get-many", ["key"], "")

    assert (name, message) == ("Error", "KV GET_BULK failed: 413 Total size of request exceeds the limit of 25MB")


def test_numbers_that_json_does_not_have_are_null_in_metadata(guest: Guest) -> None:
    guest.put("key", "", '{"metadata": {"a": [NaN, Infinity, 1.5]}}')

    assert guest.get("key")[1] == '{"a":[null,null,1.5]}'


def test_numbers_out_of_range_are_refused_before_the_key(guest: Guest) -> None:
    for name, arguments in (("put", ("", "", '{"expiration": 1e10}')), ("get", ("", '{"cacheTtl": -1e10}'))):
        kind, message = guest.failure(name, *arguments)
        assert kind == "TypeError" and message.startswith("Value out of range.")
