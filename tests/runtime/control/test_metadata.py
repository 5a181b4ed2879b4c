"""What an upload's metadata may say, and the sentence for everything that it may not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_bindings.scope import Binding
from runtime.control.envelope import ControlError
from runtime.control.metadata import parse_metadata, read_metadata
from runtime.engine.limits import LimitPolicy, Limits


def parse(**metadata: Any) -> Any:
    return parse_metadata(json.dumps({"main_module": "worker.wasm", **metadata}).encode())


def plain(name: str) -> dict[str, str]:
    return {"type": "plain_text", "name": name, "text": "x"}


@pytest.mark.parametrize("said", [{"compatibility_flags": ["nodejs_compat", "d1_js_types"]}, {}])
def test_javascripts_types_are_asked_for_by_a_flag_or_a_binding(said: dict[str, Any]) -> None:
    database = {"type": "d1", "name": "DB", "id": "d"}
    parsed = parse(bindings=[database if said else {**database, "js_types": True}, plain("P")], **said)

    assert parsed.bindings == (
        Binding("d1", "DB", resource_id="d", js_types=True),
        Binding("plain_text", "P", value="x"),
    )


def test_every_type_of_binding_is_read() -> None:
    parsed = parse(
        bindings=[
            {"type": "kv_namespace", "name": "KV", "namespace_id": "kv-1"},
            {"type": "r2_bucket", "name": "R2", "bucket_name": "b", "jurisdiction": "eu"},
            {"type": "d1", "name": "DB", "id": "db-1"},
            {"type": "d1", "name": "DB2", "database_id": "../../etc/passwd"},
            {"type": "plain_text", "name": "GREETING", "text": ""},
            {"type": "secret_text", "name": "KEY", "text": "hush"},
            {"type": "json", "name": "J", "json": [1, None, {"a": 0.5}]},
            {"type": "json", "name": "NULL", "json": None},
        ]
    )
    assert parsed.bindings == (
        Binding("kv_namespace", "KV", resource_id="kv-1"),
        Binding("r2_bucket", "R2", resource_id="b"),
        Binding("d1", "DB", resource_id="db-1"),
        Binding("d1", "DB2", resource_id="../../etc/passwd"),
        Binding("plain_text", "GREETING", value=""),
        Binding("secret_text", "KEY", value="hush"),
        Binding("json", "J", value=[1, None, {"a": 0.5}]),
        Binding("json", "NULL", value=None),
    )
    assert "hush" not in repr(parsed)


def test_what_is_left_out_gets_defaults_and_what_means_nothing_here_passes() -> None:
    parsed = parse(
        compatibility_date="2026-01-01", compatibility_flags=["x"], observability={"enabled": True}, tags=None
    )
    assert (parsed.bindings, parsed.limits, parsed.tags) == ((), Limits(), None)


def test_limits_are_read_with_cloudflares_name_for_one_of_them() -> None:
    parsed = parse(limits={"cpu_ms": 50, "subrequests": 7, "isolation": "request", "wall_ms": None})
    assert parsed.limits == Limits(cpu_ms=50, host_calls_max=7, isolation="request")


def test_bindings_of_the_version_before_are_kept_by_type_unless_given_anew() -> None:
    parsed = parse(bindings=[plain("A")], keep_bindings=["secret_text", "plain_text"])
    before = (
        Binding("plain_text", "A", value="old"),
        Binding("plain_text", "B", value="kept"),
        Binding("secret_text", "S", value="kept"),
        Binding("d1", "DB", resource_id="dropped"),
    )
    assert parsed.wanted.resolve(before) == (Binding("plain_text", "A", value="x"), before[1], before[2])


KV = {"type": "kv_namespace", "name": "KV", "namespace_id": "id"}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"main_module": None}, "metadata.main_module: is missing"),
    ({"main_module": ""}, "metadata.main_module: is missing"),
    ({"bindings": {}}, "metadata.bindings: must be a list"),
    ({"bindings": ["KV"]}, r"metadata.bindings\[0\]: must be an object"),
    ({"bindings": [KV, {"name": "X"}]}, r"metadata.bindings\[1\].type: None is not offered here"),
    (
        {"bindings": [{"type": "ai", "name": "AI"}]},
        "'ai' is not offered here; a binding is one of kv_namespace, r2_bucket",
    ),
    ({"bindings": [{"type": ["d1"], "name": "X"}]}, r"metadata.bindings\[0\].type: \['d1'\]"),
    ({"bindings": [{**KV, "name": ""}]}, r"metadata.bindings\[0\].name: '' is not valid"),
    ({"bindings": [{**KV, "name": "1A"}]}, "does not begin with a digit"),
    ({"bindings": [{**KV, "name": "A-B"}]}, r"metadata.bindings\[0\].name"),
    ({"bindings": [{**KV, "name": "A\n"}]}, r"metadata.bindings\[0\].name"),
    ({"bindings": [{**KV, "name": "A" * 129}]}, r"metadata.bindings\[0\].name"),
    ({"bindings": [{**KV, "name": None}]}, r"metadata.bindings\[0\].name"),
    ({"bindings": [KV, plain("X"), KV]}, r"metadata.bindings\[2\].name: 'KV' is there twice"),
    ({"bindings": [{"type": "kv_namespace", "name": "KV"}]}, r"metadata.bindings\[0\].namespace_id: is missing"),
    ({"bindings": [{"type": "r2_bucket", "name": "B"}]}, r"metadata.bindings\[0\].bucket_name: is missing"),
    ({"bindings": [{"type": "d1", "name": "D"}]}, r"metadata.bindings\[0\].id: is missing"),
    ({"bindings": [{**KV, "namespace_id": 5}]}, r"metadata.bindings\[0\].namespace_id: must be text"),
    ({"bindings": [{**KV, "namespace_id": ""}]}, r"metadata.bindings\[0\].namespace_id: must be text"),
    ({"bindings": [{**KV, "namespace_id": "a\0b"}]}, r"metadata.bindings\[0\].namespace_id: must be text"),
    ({"bindings": [{**KV, "namespace_id": "\ud800"}]}, r"metadata.bindings\[0\].namespace_id: must be text"),
    ({"bindings": [{**KV, "namespace_id": "a" * 257}]}, "1 to 256 printable characters"),
    ({"bindings": [{"type": "plain_text", "name": "T"}]}, r"metadata.bindings\[0\].text: is missing"),
    ({"bindings": [{"type": "plain_text", "name": "T", "text": 5}]}, r"metadata.bindings\[0\].text: must be text"),
    ({"bindings": [{"type": "plain_text", "name": "T", "text": "\udfff"}]}, "half a character"),
    ({"bindings": [{"type": "secret_text", "name": "T", "text": "é" * 40_000}]}, "has 80000 bytes; at most 65536"),
    ({"bindings": [{"type": "json", "name": "J"}]}, r"metadata.bindings\[0\].json: is missing"),
    ({"bindings": [{"type": "json", "name": "J", "json": ["x" * 70_000]}]}, "at most 65536"),
    ({"bindings": [plain(f"A{n}") for n in range(129)]}, "metadata.bindings: there are 129; at most 128"),
    ({"limits": []}, "metadata.limits: must be an object"),
    ({"limits": {"cpu": 1}}, "metadata.limits: there is no limit 'cpu'; the limits are cpu_ms, wall_ms"),
    ({"limits": {"cpu_ms": "50"}}, "metadata.limits.cpu_ms: expected int, got str"),
    ({"limits": {"cpu_ms": 0}}, "metadata.limits.cpu_ms: expected int >= 1"),
    ({"limits": {"cpu_ms": 10**30}}, "metadata.limits.cpu_ms"),
    ({"limits": {"isolation": "none"}}, "metadata.limits.isolation"),
    ({"limits": {"isolation": "\ud800"}}, "metadata.limits: has half a character"),
    ({"limits": {"\ud800": 1}}, "metadata.limits: has half a character"),
    ({"tags": "a"}, "metadata.tags: must be a list"),
    ({"tags": ["a,b"]}, "metadata.tags: 'a,b' is not valid"),
    ({"tags": [""]}, "metadata.tags: '' is not valid"),
    ({"tags": [5]}, "metadata.tags: 5 is not valid"),
    ({"tags": ["a"] * 9}, "metadata.tags: there are 9; at most 8"),
]


@pytest.mark.parametrize(("metadata", "sentence"), WRONG)
def test_what_is_wrong_gets_a_sentence_that_names_the_field(metadata: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ControlError, match=sentence) as refused:
        parse(**metadata)
    assert refused.value.status == 400
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"NaN", b'{"a": Infinity}', b"[" * 100_000, b"9" * 5000])
def test_what_is_not_json_is_said_to_be_so(text: bytes) -> None:
    with pytest.raises(ControlError, match="metadata: "):
        parse_metadata(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
BINDING = st.fixed_dictionaries(
    {"type": st.sampled_from(["kv_namespace", "r2_bucket", "d1", "plain_text", "secret_text", "json"]) | JSON},
    optional=dict.fromkeys(("name", "namespace_id", "bucket_name", "id", "database_id", "text", "json", "value"), JSON),
)


@given(
    st.fixed_dictionaries(
        {"main_module": st.text() | JSON},
        optional={
            "bindings": st.lists(BINDING, max_size=4) | JSON,
            "limits": st.dictionaries(st.sampled_from(Limits.__struct_fields__), JSON) | JSON,
            "tags": st.lists(JSON) | JSON,
            "keep_bindings": JSON,
        },
    )
    | JSON
)
def test_any_json_is_either_read_or_refused(metadata: Any) -> None:
    try:
        parsed = read_metadata(metadata, LimitPolicy())
    except ControlError as refused:
        assert refused.status == 400
    else:
        assert isinstance(parsed.limits, Limits)
        assert len({binding.name for binding in parsed.bindings}) == len(parsed.bindings)
