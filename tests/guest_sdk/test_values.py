"""What goes to bindings as options, and what comes back as values."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers import Headers, environment
from workers.values import JsDict, int32, javascript_text, load, options_text, parse_json, well_formed


def options(positional: Any = None, **keywords: Any) -> Any:
    text = options_text(positional, keywords)
    return json.loads(text) if text else None


def test_no_options_are_no_text() -> None:
    assert options_text(None, {}) == options_text({}, {}) == options_text(None, {"a": None}) == ""


def test_names_may_be_written_in_both_ways_and_both_places() -> None:
    assert (
        options({"expirationTtl": 60})
        == options(expiration_ttl=60)
        == options(expirationTtl=60)
        == {"expirationTtl": 60}
    )


def test_nested_names_too() -> None:
    assert options(only_if={"etag_matches": "x"}, http_metadata={"content_type": "a/b"}) == {
        "onlyIf": {"etagMatches": "x"},
        "httpMetadata": {"contentType": "a/b"},
    }


@pytest.mark.parametrize("name", ["metadata", "customMetadata", "custom_metadata"])
def test_names_that_the_worker_chose_stay_as_they_are(name: str) -> None:
    chosen = {"created_at": 1, "a_b_c": {"d_e": None}, "none": None}

    assert list(options(**{name: chosen}).values()) == [chosen]


def test_headers_and_dates_are_options() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)

    assert options(onlyIf=Headers({"If-Match": '"x"'})) == {"onlyIf": {"headers": 'if-match: "x"\n'}}
    assert options(onlyIf={"uploadedBefore": moment}) == {"onlyIf": {"uploadedBefore": moment.timestamp() * 1000}}
    assert options(md5=b"\x00\xff") == {"md5": {"$bytes": "AP8="}}


def test_members_are_attributes_too() -> None:
    row = load('{"name": "a", "inner": {"x": [{"y": 1}]}, "lastRowId": 5}')

    assert row.name == row["name"] == "a"
    assert row.inner.x[0].y == 1
    assert row.last_row_id == row.lastRowId == 5
    assert row.missing is None
    row.name = "b"
    assert row == {"name": "b", "inner": {"x": [{"y": 1}]}, "lastRowId": 5}
    assert isinstance(row, JsDict)
    assert json.loads(json.dumps(row)) == row


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (5, "5"),
        (10**400, str(10**400)),
        (2**53 + 1, "9007199254740993"),
        (1.5, "1.5"),
        (2.0, "2"),
        (-0.0, "0"),
        (1e-6, "0.000001"),
        (-0.000012345, "-0.000012345"),
        (1e-7, "1e-7"),
        (1.5e-10, "1.5e-10"),
        (6.359727005314609e16, "63597270053146090"),
        (-1e20, "-100000000000000000000"),
        (1e21, "1e+21"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (float("nan"), "NaN"),
    ],
)
def test_values_as_text_are_javascripts(value: object, text: str) -> None:
    assert javascript_text(value) == text


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (5, 5),
        (1.9, 1),
        (-1.9, -1),
        ("2", 2),
        ("x", 0),
        (None, 0),
        (True, 1),
        (float("nan"), 0),
        ([], 0),
        (2**31 - 1, 2**31 - 1),
    ],
)
def test_numbers_of_32_bits(value: object, number: int) -> None:
    assert int32(value) == number


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 1e300, float("inf"), 10**400])
def test_numbers_beyond_32_bits_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="Value out of range"):
        int32(value)


def test_options_that_are_not_a_mapping_are_refused() -> None:
    with pytest.raises(TypeError, match="what it says"):
        options_text(["limit"], {}, "what it says")


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "", "{", "\ufeff1"])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        parse_json(text)


@given(st.text(st.characters()))
def test_every_text_can_be_made_one_that_has_utf_8(text: str) -> None:
    formed = well_formed(text)

    formed.encode()
    assert len(formed) == len(text)
    assert all(new == ("\ufffd" if "\ud800" <= old <= "\udfff" else old) for old, new in zip(text, formed, strict=True))


def test_a_worker_without_bindings_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_filled", False)
    with pytest.raises(AttributeError, match="only while a call is handled"):
        _ = environment.env.KV

    env = environment.filled(dict)

    with pytest.raises(AttributeError, match=r"no binding 'KV'; it has none. Bindings are declared in the wrangler"):
        _ = env.KV
