"""What guests see of R2: each rule of Cloudflare's binding with its limit and its error text."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from host_bindings.contract import Failure
from host_bindings.r2.binding import OBJECT_BYTES_MAX
from tests.host_bindings.r2.buckets import Pieces
from tests.host_bindings.r2.conftest import NOW, PART_BYTES_MIN, Guest
from tests.host_bindings.storage.faults import files_no_longer_than

MD5 = hashlib.md5(b"value").hexdigest()
TOO_LONG = "x" * 1025


class SaysItIsHuge(Pieces):
    def __init__(self) -> None:
        super().__init__([b"x"], OBJECT_BYTES_MAX + 1)


# What is known of an object


def test_an_object_as_put_head_get_and_list_show_it(guest: Guest) -> None:
    stored = guest.put("key", "value", httpMetadata={"contentType": "text/plain"}, customMetadata={"a": "b"})
    assert stored is not None
    version = stored.pop("version")
    assert len(version) == 32
    assert stored == {
        "key": "key",
        "size": 5,
        "etag": MD5,
        "httpEtag": f'"{MD5}"',
        "uploaded": NOW * 1000 + 500,
        "httpMetadata": {"contentType": "text/plain"},
        "customMetadata": {"a": "b"},
        "checksums": {"md5": MD5},
        "storageClass": "Standard",
    }
    whole = {**stored, "version": version, "range": {"offset": 0, "length": 5}}
    assert guest.head("key") == whole
    assert guest.get("key") == (whole, b"value")
    part = {**whole, "range": {"offset": 1, "length": 3}}
    assert guest.get("key", range={"offset": 1, "length": 3}) == (part, b"alu")
    (listed,) = guest.list()["objects"]
    assert listed == {**stored, "version": version, "httpMetadata": {}, "customMetadata": {}}


def test_missing_objects(guest: Guest) -> None:
    assert guest.head("key") is None
    assert guest.get("key", range={"offset": 5}, onlyIf={"etagMatches": "x"}) is None
    guest.call("delete", ["key"])
    guest.call("delete", [])


@pytest.mark.parametrize("value", [None, "", b""])
def test_empty_objects(guest: Guest, value: Any) -> None:
    guest.put("", value)
    found = guest.get("")
    assert found is not None and found[1] == b"" and found[0]["range"] == {"offset": 0, "length": 0}


# Keys


def test_keys_that_are_too_long(guest: Guest) -> None:
    message = "The specified object name is not valid. (10020)"
    for name, operation, arguments in (
        ("head", "head", (TOO_LONG,)),
        ("get", "get", (TOO_LONG, "")),
        ("put", "put", (TOO_LONG, "value", "")),
        ("delete", "delete", (["key", TOO_LONG],)),
        ("create-multipart-upload", "createMultipartUpload", (TOO_LONG, "")),
        ("upload-part", "uploadPart", (TOO_LONG, "id", 1, "value")),
        ("complete-multipart-upload", "completeMultipartUpload", (TOO_LONG, "id", "[]")),
        ("abort-multipart-upload", "abortMultipartUpload", (TOO_LONG, "id")),
    ):
        assert guest.failure(name, *arguments) == ("Error", f"{operation}: {message}")
    guest.put("é" * 512, "value")


def test_up_to_a_thousand_keys_are_deleted_at_once(guest: Guest) -> None:
    guest.put("5", "value")
    guest.call("delete", [str(n) for n in range(1000)])
    assert guest.head("5") is None
    name, message = guest.failure("delete", ["key"] * 1001)
    assert name == "TypeError" and "1000" in message


def test_a_binding_that_the_worker_does_not_have_is_refused(guest: Guest) -> None:
    stream = Pieces([b"x"])
    for name, arguments in (("head", ("k",)), ("get", ("k", "")), ("put", ("k", stream, "")), ("list", ("",))):
        kind, message = guest.failure(name, *arguments, binding="OTHER")
        assert kind == "TypeError" and "OTHER" in message
    assert stream.closed


# put


def test_metadata_of_both_kinds(guest: Guest) -> None:
    http = {
        "contentType": "text/html",
        "contentLanguage": "de",
        "contentDisposition": "inline",
        "contentEncoding": "gzip",
        "cacheControl": "no-store",
        "cacheExpiry": 1_800_000_000_000,
    }
    stored = guest.put("key", "", httpMetadata={**http, "other": "x"}, customMetadata={"n": 5, "t": True, "é": "😀"})
    assert stored is not None
    assert stored["httpMetadata"] == http
    assert stored["customMetadata"] == {"n": "5", "t": "true", "é": "😀"}


def test_http_metadata_from_headers(guest: Guest) -> None:
    lines = "content-type: text/css\nexpires: Fri, 15 Jan 2027 08:00:00 GMT\nx-other: 1\n"
    stored = guest.put("key", "", httpMetadata={"headers": lines})
    assert stored is not None
    assert stored["httpMetadata"] == {"contentType": "text/css", "cacheExpiry": 1_800_000_000_000}


def test_metadata_that_is_too_large(guest: Guest) -> None:
    message = ("Error", "put: Your metadata headers exceed the maximum allowed metadata size. (10012)")
    guest.put("key", "", customMetadata={"k": "x" * 8191})
    guest.put("key", "", customMetadata={"k": "ÿ" * 8191})
    assert guest.put_failure(customMetadata={"k": "x" * 8192}) == message
    # Beyond Latin-1 every character counts as two bytes.
    assert guest.put_failure(customMetadata={"k": "x" * 4095 + "Ā"}) == message
    assert guest.put_failure(httpMetadata={"contentType": "x" * 8192}) == message


@pytest.mark.parametrize("name", ["md5", "sha1", "sha256", "sha384", "sha512"])
def test_a_checksum_in_hex_of_either_case(guest: Guest, name: str) -> None:
    value = hashlib.new(name, b"value").hexdigest()
    stored = guest.put("key", "value", **{name: value.upper()})
    assert stored is not None
    assert stored["checksums"] == {"md5": MD5, name: value}


def test_checksums_that_are_refused(guest: Guest) -> None:
    assert guest.put_failure(md5=MD5, sha1="x") == ("TypeError", "You cannot specify multiple hashing algorithms.")
    assert guest.put_failure(md5="ab") == ("TypeError", "MD5 is 32 hex characters, not 2")
    assert guest.put_failure(sha256="g" * 64) == ("TypeError", "Provided SHA-256 wasn't a valid hex string")
    wrong = "0" * 40
    actual = hashlib.sha1(b"value").hexdigest()
    assert guest.put_failure(sha1=wrong) == (
        "Error",
        "put: The SHA-1 checksum you specified did not match what we received.\n"
        f"You provided a SHA-1 checksum with value: {wrong}\nActual SHA-1 was: {actual} (10037)",
    )
    assert guest.head("key") is None


def test_an_object_that_is_too_large(guest: Guest) -> None:
    stream = SaysItIsHuge()
    assert guest.failure("put", "key", stream, "") == (
        "Error",
        "put: Your proposed upload exceeds the maximum allowed object size. (100100)",
    )
    assert stream.closed


def test_storage_classes(guest: Guest) -> None:
    stored = guest.put("key", "", storageClass="InfrequentAccess")
    assert stored is not None and stored["storageClass"] == "InfrequentAccess"
    assert guest.put_failure(storageClass="Glacier")[0] == "TypeError"


@pytest.mark.parametrize(
    "options",
    ["{", "[]", "5", '{"httpMetadata": 5}', '{"customMetadata": "x"}', '{"onlyIf": []}', "{}" + " " * 300_000],
)
def test_options_of_the_wrong_form_are_refused(guest: Guest, options: str) -> None:
    stream = Pieces([b"x"])
    name, _ = guest.failure("put", "key", stream, options)
    assert name == "TypeError" and stream.closed


# Conditions


def test_a_condition_that_does_not_hold(guest: Guest) -> None:
    guest.put("key", "value")
    assert guest.put("key", "other", onlyIf={"etagDoesNotMatch": "*"}) is None
    found = guest.get("key", onlyIf={"etagMatches": "wrong"})
    assert found is not None and found[0]["key"] == "key" and found[1] is None
    assert guest.put("new", "value", onlyIf={"etagMatches": "*"}) is None
    assert guest.put("new", "value", onlyIf={"uploadedAfter": 0}) is None
    assert guest.head("new") is None


@pytest.mark.parametrize(
    ("only_if", "holds"),
    [
        ({}, True),
        ({"etagMatches": MD5}, True),
        ({"etagMatches": "*"}, True),
        ({"etagDoesNotMatch": MD5}, False),
        ({"uploadedBefore": NOW * 1000 + 501}, True),
        ({"uploadedBefore": NOW * 1000 + 500}, False),
        ({"uploadedAfter": NOW * 1000 + 499}, True),
        ({"uploadedAfter": NOW * 1000 + 499, "secondsGranularity": True}, False),
        ({"uploadedAfter": "2020-01-01T00:00:00.000Z"}, True),
        ({"uploadedBefore": "2020-01-01T00:00:00Z"}, False),
        ({"headers": ""}, True),
        ({"headers": f'if-match: "{MD5}"\n'}, True),
        ({"headers": f'if-match: "a", , "{MD5}"\n'}, True),
        ({"headers": f'if-match: "a"\nif-match: "{MD5}"\n'}, True),
        ({"headers": f'if-match: W/"{MD5}"\n'}, False),
        ({"headers": "if-match: *\n"}, True),
        ({"headers": f'if-none-match: W/"{MD5}"\n'}, False),
        ({"headers": 'if-none-match: "a", "b,c"\n'}, True),
        ({"headers": "if-none-match: *\n"}, False),
        ({"headers": "if-modified-since: Tue, 14 Nov 2023 22:13:19 GMT\n"}, True),
        ({"headers": "if-modified-since: Tue, 14 Nov 2023 22:13:20 GMT\n"}, False),
        ({"headers": "if-unmodified-since: Tue, 14 Nov 2023 22:13:20 GMT\n"}, False),
        ({"headers": "if-unmodified-since: Tue, 14 Nov 2023 22:13:21 GMT\n"}, True),
        ({"headers": "if-modified-since: no date\n"}, True),
    ],
)
def test_conditions(guest: Guest, only_if: dict[str, Any], holds: bool) -> None:
    guest.put("key", "value")
    found = guest.get("key", onlyIf=only_if)
    assert found is not None and (found[1] is not None) == holds


def test_conditions_that_are_refused(guest: Guest) -> None:
    assert guest.put_failure(onlyIf={"etagMatches": '"x"'}) == (
        "TypeError",
        'Conditional ETag should not be wrapped in quotes ("x").',
    )
    assert guest.put_failure(onlyIf={"etagMatches": 5}) == (
        "TypeError",
        "Incorrect type for the 'etagMatches' field on 'Conditional': the provided value is not of type 'string'.",
    )
    assert guest.put_failure(onlyIf={"uploadedBefore": "soon"}) == (
        "TypeError",
        "Incorrect type for the 'uploadedBefore' field on 'Conditional': the provided value is not of type 'date'.",
    )
    with_nan = '{"onlyIf": {"uploadedBefore": NaN}}'
    assert guest.failure("put", "key", "value", with_nan) == (
        "TypeError",
        "The value cannot be converted because it is not a valid Date.",
    )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ('"a" "b"', "Comma was expected to separate etags. Encountered a double quote character '\"' instead."),
        ('"a" W/"b"', "Comma was expected to separate etags. Encountered a weak quotation character 'W' instead."),
        ('"a" *', "Comma was expected to separate etags. Encountered a wildcard character '*' instead."),
        ('"a', "Unclosed double quote for Etag"),
        ("W/a", "Weak etags must start with W/ and their value must be quoted"),
        ('w"a"', "Invalid ETag in if-match header"),
        ("a", "Invalid ETag in if-match header"),
        ("", "Invalid ETag in if-match header"),
    ],
)
def test_lists_of_etags_that_are_refused(guest: Guest, header: str, message: str) -> None:
    name, text = guest.put_failure(onlyIf={"headers": f"if-match: {header}\n"})

    assert name == "Error" and text.startswith(message)


# Ranges


@pytest.mark.parametrize(
    ("wanted", "offset", "length"),
    [
        ({}, 0, 10),
        ({"offset": 2}, 2, 8),
        ({"length": 3}, 0, 3),
        ({"offset": 8, "length": 100}, 8, 2),
        ({"suffix": 100}, 0, 10),
        ({"suffix": 3.0}, 7, 3),
        ({"offset": None, "suffix": 3}, 7, 3),
        ({"headers": "range: bytes=2-4\n"}, 2, 3),
        ({"headers": "range: bytes=2-4,6-8\n"}, 0, 10),
        ({"headers": "x: y\n"}, 0, 10),
    ],
)
def test_ranges(guest: Guest, wanted: dict[str, Any], offset: int, length: int) -> None:
    guest.put("key", "0123456789")
    found = guest.get("key", range=wanted)
    assert found is not None
    assert found[0]["range"] == {"offset": offset, "length": length} and found[0]["size"] == 10
    assert found[1] == b"0123456789"[offset : offset + length]


@pytest.mark.parametrize(
    ("wanted", "name", "message"),
    [
        ({"offset": 10}, "Error", "get: The requested range is not satisfiable (10039)"),
        ({"length": 0}, "Error", "get: The requested range is not satisfiable (10039)"),
        ({"suffix": 0}, "Error", "get: The requested range is not satisfiable (10039)"),
        ({"offset": 1e300}, "Error", "get: The requested range is not satisfiable (10039)"),
        (
            {"offset": -1},
            "RangeError",
            "Invalid range. Starting offset (-1) must be greater than or equal to 0.",
        ),
        (
            {"offset": 1.5},
            "RangeError",
            "Invalid range. Starting offset (1.5) must be an integer, not floating point.",
        ),
        ({"length": -1}, "RangeError", "Invalid range. Length (-1) must be greater than or equal to 0."),
        ({"suffix": -1}, "RangeError", "Invalid suffix. Suffix (-1) must be greater than or equal to 0."),
        ({"suffix": 1.5}, "RangeError", "Invalid range. Suffix (1.5) must be an integer, not floating point."),
        ({"suffix": 1, "offset": 0}, "TypeError", "Suffix is incompatible with offset."),
        ({"suffix": 1, "length": 1}, "TypeError", "Suffix is incompatible with length."),
    ],
)
def test_ranges_that_are_refused(guest: Guest, wanted: dict[str, Any], name: str, message: str) -> None:
    guest.put("key", "0123456789")
    assert guest.failure("get", "key", json.dumps({"range": wanted})) == (name, message)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", '"x"', "[]"])
def test_a_range_of_no_number_is_refused(guest: Guest, number: str) -> None:
    guest.put("key", "0123456789")
    name, _ = guest.failure("get", "key", f'{{"range": {{"offset": {number}}}}}')
    assert name == "RangeError"


# list


def test_a_listing(guest: Guest) -> None:
    assert guest.call("list", "") == '{"objects":[],"truncated":false,"delimitedPrefixes":[]}'
    for key in ("a/1", "a/2", "b", "c/1"):
        guest.put(key, "", customMetadata={"k": key})
    first = guest.list(delimiter="/", limit=2, include=["customMetadata"])
    assert first["delimitedPrefixes"] == ["a/"] and first["truncated"] is True
    assert [(found["key"], found["customMetadata"]) for found in first["objects"]] == [("b", {"k": "b"})]
    second = guest.list(delimiter="/", limit=2, cursor=first["cursor"])
    assert second == {"objects": [], "truncated": False, "delimitedPrefixes": ["c/"]}


def test_with_metadata_a_page_has_at_most_a_hundred_objects(guest: Guest) -> None:
    for n in range(102):
        guest.put(f"{n:03}", "")
    assert len(guest.list()["objects"]) == 102
    page = guest.list(include=["httpMetadata"])
    assert len(page["objects"]) == 100 and page["truncated"] is True
    rest = guest.list(include=["httpMetadata"], cursor=page["cursor"])
    assert [found["key"] for found in rest["objects"]] == ["100", "101"]


@pytest.mark.parametrize("limit", [0, 1001, -2])
def test_limits_that_are_refused(guest: Guest, limit: int) -> None:
    assert guest.failure("list", json.dumps({"limit": limit})) == (
        "Error",
        "list: MaxKeys params must be positive integer <= 1000. (10022)",
    )


def test_listing_options(guest: Guest) -> None:
    guest.put("key", "")
    for options in ({"limit": -1}, {"limit": None, "cursor": "", "prefix": "", "delimiter": ""}, {"cursor": "%%"}):
        assert [found["key"] for found in guest.list(**options)["objects"]] == ["key"]
    assert guest.failure("list", '{"include": ["sizes"]}') == ("RangeError", "Unsupported include value sizes")
    assert guest.failure("list", '{"include": "httpMetadata"}')[0] == "TypeError"


# Multipart uploads


def upload_part(guest: Guest, upload: str, number: int, value: Any) -> dict[str, Any]:
    part: dict[str, Any] = json.loads(guest.call("upload-part", "key", upload, number, value))
    return part


def test_an_upload_in_parts(guest: Guest) -> None:
    upload = guest.call("create-multipart-upload", "key", '{"customMetadata": {"a": "b"}}')
    parts = [
        upload_part(guest, upload, 2, "tail"),
        upload_part(guest, upload, 1, Pieces([b"x" * PART_BYTES_MIN])),
    ]
    assert [part["partNumber"] for part in parts] == [2, 1]
    assert guest.head("key") is None and guest.list()["objects"] == []
    parts.sort(key=lambda part: int(part["partNumber"]))
    done = json.loads(guest.call("complete-multipart-upload", "key", upload, json.dumps(parts)))
    assert done["size"] == PART_BYTES_MIN + 4 and done["etag"].endswith("-2")
    assert "range" not in done and done["checksums"] == {} and done["customMetadata"] == {"a": "b"}
    found = guest.get("key")
    assert found is not None and found[1] == b"x" * PART_BYTES_MIN + b"tail"
    guest.call("abort-multipart-upload", "key", upload)
    assert guest.head("key") is not None


@pytest.mark.parametrize("number", [0, -1, 10_001])
def test_part_numbers_that_are_refused(guest: Guest, number: int) -> None:
    expected = (
        "TypeError",
        f"Part number must be between 1 and 10000 (inclusive). Actual value was: {number}",
    )
    upload = guest.call("create-multipart-upload", "key", "")
    stream = Pieces([b"x"])
    assert guest.failure("upload-part", "key", upload, number, stream) == expected
    assert stream.closed
    parts = json.dumps([{"partNumber": number, "etag": "x"}])
    assert guest.failure("complete-multipart-upload", "key", upload, parts) == expected


@pytest.mark.parametrize("parts", ["", "{", "{}", "[5]", "[null]", '[{"etag": "x"}]', "[" * 100_000])
def test_lists_of_parts_of_the_wrong_form(guest: Guest, parts: str) -> None:
    upload = guest.call("create-multipart-upload", "key", "")
    assert guest.failure("complete-multipart-upload", "key", upload, parts)[0] == "TypeError"


def test_errors_of_uploads_name_their_operation(guest: Guest) -> None:
    upload = guest.call("create-multipart-upload", "key", "")
    internal = "We encountered an internal error. Please try again. (10001)"
    parts = json.dumps([{"partNumber": 1, "etag": "x"}])
    for name, arguments, message in (
        ("upload-part", ("unknown", 1, "x"), "uploadPart: The specified multipart upload does not exist. (10024)"),
        ("complete-multipart-upload", ("unknown", parts), f"completeMultipartUpload: {internal}"),
        ("abort-multipart-upload", ("unknown",), f"abortMultipartUpload: {internal}"),
        (
            "complete-multipart-upload",
            (upload, parts),
            "completeMultipartUpload: One or more of the specified parts could not be found. (10025)",
        ),
    ):
        assert guest.failure(name, "key", *arguments) == ("Error", message)


# The storage


def test_a_storage_that_fails_is_an_error_that_names_no_file(guest: Guest, tmp_path: Path) -> None:
    guest.put("key", "old")
    with files_no_longer_than(128 * 1024):
        name, message = guest.failure("put", "key", b"x" * 200_000, "")
    assert (name, message) == ("Error", "put: The storage failed. (10001)")
    found = guest.get("key")
    assert found is not None and found[1] == b"old"


# What would be dangerous to ignore


def test_a_key_to_encrypt_with_is_refused_rather_than_ignored(guest: Guest) -> None:
    with pytest.raises(Failure, match="ssecKey is not supported"):
        guest.put("key", "value", ssecKey="00" * 32)
    with pytest.raises(Failure, match="ssecKey is not supported"):
        guest.get("key", ssecKey="00" * 32)

    assert guest.head("key") is None


def test_a_checksum_as_bytes(guest: Guest) -> None:
    digest = base64.b64encode(hashlib.sha1(b"value").digest()).decode()

    stored = guest.put("key", "value", sha1={"$bytes": digest})

    assert stored is not None and stored["checksums"]["sha1"] == hashlib.sha1(b"value").hexdigest()
    assert guest.put_failure(sha1={"$bytes": "AAA="}) == ("TypeError", "SHA-1 is 20 bytes, not 2")
    assert guest.put_failure(sha1={"$bytes": "?"})[0] == "TypeError"
    for wrong in (5, [1], {"a": 1}):
        assert guest.put_failure(sha1=wrong) == (
            "TypeError",
            "Incorrect type for the 'sha1' field on 'PutOptions': the provided value is not of type 'JsBufferSource or "
            "string'.",
        )


def test_keys_to_encrypt_with_that_are_none(guest: Guest) -> None:
    assert guest.put_failure(ssecKey="ABC") == ("Error", "SSE-C Key has invalid format")
    assert guest.put_failure(ssecKey="abc") == ("Error", "SSE-C Key must be 32 bytes in length")
    assert guest.put_failure(ssecKey={"$bytes": "AAA="}) == ("Error", "SSE-C Key must be 32 bytes in length")


def test_a_key_is_refused_before_its_metadata_and_both_before_a_checksum(guest: Guest) -> None:
    long, much, wrong = "x" * 1025, {"k": "v" * 9000}, "0" * 32

    def failure(key: str, **options: object) -> str:
        return guest.failure("put", key, "value", json.dumps(options))[1]

    assert failure(long, customMetadata=much, md5=wrong).endswith("(10020)")
    assert failure("key", customMetadata=much, md5=wrong).endswith("(10012)")
    assert failure("key", md5=wrong, onlyIf={"etagMatches": "x"}).endswith(
        hashlib.md5(b"value").hexdigest() + " (10037)"
    )


@pytest.mark.parametrize("wanted", ["{}", '{"offset": 0}', '{"length": 5}', '{"suffix": 1}'])
def test_an_empty_object_has_no_range(guest: Guest, wanted: str) -> None:
    guest.put("key", "")

    assert guest.failure("get", "key", f'{{"range": {wanted}}}')[1].endswith("(10039)")


def test_a_range_without_an_end(guest: Guest) -> None:
    guest.put("key", "0123456789")

    info, _ = guest.call("get", "key", '{"range": {"offset": 3, "length": Infinity}}')

    assert json.loads(info)["range"] == {"offset": 3, "length": 7}
