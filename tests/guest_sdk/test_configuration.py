"""A worker's configuration: three formats, what it becomes, and what is said of mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest_sdk.build import ConfigurationError, read_configuration
from guest_sdk.build.configuration import strip_comments

Project = Callable[[Mapping[str, str]], Path]

FULL = """{
  // a comment, "quoted"
  "name": "a", /* another
  over two lines */
  "main": "src/entry.py",
  "kv_namespaces": [{ "binding": "KV", "id": "k" },],
  "r2_buckets": [{ "binding": "R2", "bucket_name": "b" }],
  "d1_databases": [
    { "binding": "D1", "database_id": "d", "database_name": "ignored" },
    { "binding": "D2", "database_name": "n" },
  ],
  "vars": { "TEXT": "// no comment, /* really */", "NUMBER": 5, "OBJECT": {"a": [1,]}, },
  "limits": { "cpu_ms": 50 },
  "tags": ["x"],
}"""

TOML = """
name = "a"
main = "entry.py"
[[kv_namespaces]]
binding = "KV"
id = "k"
[vars]
TEXT = "t"
"""


def test_a_compatibility_flag_marks_the_databases(project: Project) -> None:
    text = """{"name": "a", "main": "entry.py", "compatibility_flags": ["d1_js_types"],
      "d1_databases": [{"binding": "DB", "database_id": "d"}], "kv_namespaces": [{"binding": "KV", "id": "k"}]}"""

    configuration = read_configuration(project({"wrangler.jsonc": text}))

    assert list(configuration.bindings) == [
        {"type": "kv_namespace", "name": "KV", "namespace_id": "k"},
        {"type": "d1", "name": "DB", "id": "d", "js_types": True},
    ]


def test_jsonc_becomes_the_uploads_bindings(project: Project) -> None:
    folder = project({"wrangler.jsonc": FULL, "src/entry.py": ""})

    configuration = read_configuration(folder)

    assert (configuration.name, configuration.main) == ("a", folder / "src/entry.py")
    assert list(configuration.bindings) == [
        {"type": "kv_namespace", "name": "KV", "namespace_id": "k"},
        {"type": "r2_bucket", "name": "R2", "bucket_name": "b"},
        {"type": "d1", "name": "D1", "id": "d"},
        {"type": "d1", "name": "D2", "id": "n"},
        {"type": "plain_text", "name": "TEXT", "text": "// no comment, /* really */"},
        {"type": "json", "name": "NUMBER", "json": 5},
        {"type": "json", "name": "OBJECT", "json": {"a": [1]}},
    ]
    assert (configuration.limits, configuration.tags, configuration.notes) == ({"cpu_ms": 50}, ("x",), ())


def test_toml_says_the_same(project: Project) -> None:
    folder = project({"wrangler.toml": TOML})
    (folder / "wrangler.jsonc").unlink()

    assert list(read_configuration(folder).bindings) == [
        {"type": "kv_namespace", "name": "KV", "namespace_id": "k"},
        {"type": "plain_text", "name": "TEXT", "text": "t"},
    ]


def test_the_main_file_may_be_elsewhere(project: Project) -> None:
    folder = project({"inner/wrangler.jsonc": '{"name": "a", "main": "../entry.py"}'})

    assert read_configuration(folder / "inner").main.resolve() == folder / "entry.py"


def test_unknown_keys_are_ignored_and_named(project: Project) -> None:
    folder = project({"wrangler.jsonc": '{"name": "a", "main": "entry.py", "queues": {}, "ai": {}}'})

    notes = read_configuration(folder).notes

    assert [note.split()[1] for note in notes] == ["ai", "queues"]


def test_variables_are_not_shown(project: Project) -> None:
    folder = project({"wrangler.jsonc": '{"name": "a", "main": "entry.py", "vars": {"TOKEN": "secret"}}'})

    assert "secret" not in repr(read_configuration(folder))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": None}, "name must be given"),
        ({"name": 5}, "name must be given, as a text"),
        ({"main": ""}, "main must be given"),
        ({"main": "nowhere.py"}, "there is no file nowhere.py"),
        ({"main": "wrangler.jsonc"}, "not a Python file"),
        ({"kv_namespaces": {}}, "kv_namespaces must be a list"),
        ({"kv_namespaces": [5]}, r"kv_namespaces\[0\].binding must be given"),
        ({"kv_namespaces": [{"binding": "A"}]}, r"kv_namespaces\[0\].id must be given"),
        ({"r2_buckets": [{"binding": "A", "bucket_name": 5}]}, r"r2_buckets\[0\].bucket_name must be given, as a text"),
        ({"d1_databases": [{"binding": "A"}]}, r"d1_databases\[0\].database_id must be given"),
        ({"vars": []}, "vars must be an object"),
        ({"limits": 5}, "limits must be an object"),
        ({"vars": {"A": "x"}, "kv_namespaces": [{"binding": "A", "id": "x"}]}, "two bindings have the name A"),
    ],
)
def test_a_mistake_is_named_with_its_place(project: Project, changes: dict[str, Any], said: str) -> None:
    folder = project({"wrangler.jsonc": json.dumps({"name": "a", "main": "entry.py", **changes})})

    with pytest.raises(ConfigurationError, match=said) as caught:
        read_configuration(folder)
    assert "wrangler.jsonc" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1} x', "{'a': 1}", '{"a": /* 1}', '{"a": "//}'])
def test_what_is_no_jsonc_is_refused(project: Project, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"wrangler\.jsonc"):
        read_configuration(project({"wrangler.jsonc": text}))


def test_a_file_that_is_no_text_is_refused(project: Project) -> None:
    folder = project({})
    (folder / "wrangler.jsonc").write_bytes(b"\xff")

    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_configuration(folder)


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no wrangler\.jsonc"):
        read_configuration(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["//", "/*", "*/", ",]", '",}', "\\"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.sampled_from([None, 1]))
def test_json_stays_what_it_is(value: Any, indent: int | None) -> None:
    assert json.loads(strip_comments(json.dumps(value, indent=indent))) == value


def test_lines_and_columns_stay_where_they_are() -> None:
    text = '{\n  // one\n  "a": /* two\n three */ 1,\n}'

    stripped = strip_comments(text)

    assert [len(line) for line in stripped.splitlines()] == [len(line) for line in text.splitlines()]
