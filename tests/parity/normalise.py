"""What the two sides need not agree on, and the comparison of the rest. This is the only place for it.

`BINDINGS` has a function for each binding that takes an operation and its result and gives the result to compare.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CLOCK_SECONDS = 5
"""How far apart the two sides may do the same operation."""


@dataclass(frozen=True)
class Moment:
    """A time that a side took from its clock, in seconds: like another one that is close."""

    seconds: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Moment) and abs(self.seconds - other.seconds) <= CLOCK_SECONDS

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class AtMost:
    """A figure that is a lower bound here: like another one that is as large, or larger."""

    rows: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AtMost) and self.rows <= other.rows

    __hash__ = None  # type: ignore[assignment]


def first_difference(
    binding: str,
    operations: Sequence[Mapping[str, Any]],
    here: Sequence[Mapping[str, Any]],
    there: Sequence[Mapping[str, Any]],
) -> str | None:
    """The first operation whose results differ, as text; None if there is none."""
    if not len(operations) == len(here) == len(there):
        return f"{len(operations)} operations, {len(here)} results of Cloister, {len(there)} of Miniflare"
    for index, (operation, one, other) in enumerate(zip(operations, here, there, strict=True)):
        path = _difference(normalise(binding, operation, one), normalise(binding, operation, other), "result")
        if path is not None:
            return f"operation {index} {operation!r}: {path}\n  Cloister:  {one!r:.2000}\n  Miniflare: {other!r:.2000}"
    return None


def normalise(binding: str, operation: Mapping[str, Any], result: Mapping[str, Any]) -> Any:
    if result.get("type") == "SyntaxError":
        # What a parser says of text that is not JSON is its own.
        return {"type": "SyntaxError"}
    return BINDINGS.get(binding, lambda _operation, result: result)(operation, result)


def replace(value: Any, fields: Mapping[str, Callable[[Any], Any]]) -> Any:
    """The value with the members of these names replaced, at any depth."""
    if isinstance(value, list):
        return [replace(element, fields) for element in value]
    if isinstance(value, dict):
        return {name: fields[name](v) if name in fields else replace(v, fields) for name, v in value.items()}
    return value


def _difference(here: Any, there: Any, path: str) -> str | None:
    if isinstance(here, dict) and isinstance(there, dict):
        if here.keys() != there.keys():
            return f"{path} has other members: {sorted(here.keys() ^ there.keys())}"
        return next(filter(None, (_difference(here[name], there[name], f"{path}.{name}") for name in here)), None)
    if isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        return next(
            filter(None, (_difference(*pair, f"{path}[{i}]") for i, pair in enumerate(zip(here, there, strict=True)))),
            None,
        )
    # True == 1 in Python, and not for those who read a result.
    same = here == there and isinstance(here, bool) == isinstance(there, bool)
    return None if same else f"{path} differs: {here!r:.500} and {there!r:.500}"


def _kv(operation: Mapping[str, Any], result: Mapping[str, Any]) -> Any:
    found = replace(result, {"expiration": Moment, "cursor": _anything})
    method, *arguments = operation["calls"][-1]
    if method == "getWithMetadata" and isinstance(arguments[0], list) and "value" in found:
        found["value"] = {key: _entry(entry) for key, entry in found["value"].items()}
    return found


def _entry(entry: Any) -> Any:
    """Of several keys at once Miniflare gives "", 0, False and null bare, without their metadata."""
    if isinstance(entry, dict) and entry.keys() == {"value", "metadata"} and entry["value"] in ("", 0, None):
        return entry["value"]
    return entry


_D1_META_ASIDE = frozenset(
    {"served_by", "served_by_primary", "timings", "total_attempts", "duration", "size_after"},
)
"""What the sides measure, or one of them does not tell. Directed tests of Cloister look at these fields."""

_D1_ABOUT_THE_SCHEMA = re.compile(r'( already exists|no such column: "?[\w.]+"?) at offset \d+:')
_D1_BOOKMARK = re.compile(r"[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{32}")


def _d1(operation: Mapping[str, Any], result: Mapping[str, Any]) -> Any:
    return _javascript(_d1_results(result))


def _d1_results(value: Any) -> Any:
    """Results of statements and scripts without what the sides need not agree on."""
    if isinstance(value, list):
        return [_d1_results(member) for member in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"error", "type"}:
        # SQLite forgets the place when it has found, while it prepared the statement, that the schema is another one.
        return {**value, "error": _D1_ABOUT_THE_SCHEMA.sub(r"\1:", value["error"])}
    if value.keys() == {"count", "duration"}:
        return {"count": value["count"]}
    if value.keys() == {"success", "meta", "results"}:
        meta = {name: member for name, member in value["meta"].items() if name not in _D1_META_ASIDE}
        meta |= {name: AtMost(meta[name]) for name in ("rows_read", "rows_written")}
        if not meta["changes"] and not value["results"]:
            # There a change of the schema counts only if the file has grown.
            del meta["changed_db"]
        return {**value, "meta": meta}
    return {name: _d1_results(member) for name, member in value.items()}


def _javascript(value: Any) -> Any:
    """A value as it would be if it had been JavaScript's: a BLOB a list of numbers, every number a double."""
    if isinstance(value, dict):
        if value.keys() == {"$bytes"}:
            return list(base64.b64decode(value["$bytes"]))
        return {name: _javascript(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_javascript(member) for member in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return "bookmark" if isinstance(value, str) and _D1_BOOKMARK.fullmatch(value) else value


def _r2(operation: Mapping[str, Any], result: Mapping[str, Any]) -> Any:
    if operation["calls"][-1][0] == "uploadPart":
        return replace(result, {"etag": _anything})
    if result.get("error") == "get: Unspecified error (0)":
        # Miniflare breaks on a range with a length that begins at the end of its object.
        return {"error": "get: The requested range is not satisfiable (10039)", "type": "Error"}
    anything = dict.fromkeys(("version", "uploadId", "cursor", "storageClass"), _anything)
    return replace(result, anything | {"uploaded": _moment, "headers": _without_space})


def _without_space(headers: Any) -> Any:
    """Headers, or what is said instead. Miniflare writes metadata into them with the white space around it."""
    return {name: value.strip(" \t\r\n") for name, value in headers.items()} if isinstance(headers, dict) else headers


def _anything(value: Any) -> Any:
    """A value of which only matters that it is there."""
    return type(value).__name__


def _moment(value: Any) -> Any:
    return Moment(value["$date"] / 1000)


BINDINGS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Any]] = {
    "kv": _kv,
    "r2": _r2,
    "d1": _d1,
    "d1-js": _d1,
}
