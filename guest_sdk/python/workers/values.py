"""Values as bindings give and take them: mappings with attributes, options in either spelling."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from workers.headers import Headers


class JsDict(dict[str, Any]):
    """A mapping whose entries are attributes too: `row["name"]` and `row.name`; other names are None, not errors."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = self.get(name)
        if found is None and "_" in name:
            found = self.get(camel(name))
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def camel(name: str) -> str:
    """`expiration_ttl` as `expirationTtl`."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def load(text: str) -> Any:
    """JSON with `JsDict` for objects."""
    return json.loads(text, object_hook=JsDict)


_OWN_NAMES = frozenset(("metadata", "customMetadata"))
"""Options whose members the worker names itself: nothing in them is renamed or left out."""


def options_text(positional: Any, keywords: Mapping[str, Any]) -> str:
    """Options for the contract: JSON, names in camelCase, without those that are None. "" if there are none."""
    if not keywords and not positional:
        return ""
    given = {camel(str(name)): value for name, value in {**dict(positional or {}), **keywords}.items()}
    found = {
        name: value if name in _OWN_NAMES else _option(value) for name, value in given.items() if value is not None
    }
    return json.dumps(found) if found else ""


def _option(value: Any) -> Any:
    if isinstance(value, Headers):
        return {"headers": value.to_text()}
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.astimezone()).timestamp() * 1000
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {camel(str(k)): _option(v) for k, v in value.items() if v is not None}
    return value


def javascript_text(value: Any) -> str:
    """JavaScript's String(value), as far as Python's values have one; for keys that are not text."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            return "NaN"
        if value in (_INFINITY, -_INFINITY):
            return "Infinity" if value > 0 else "-Infinity"
        if value.is_integer() and abs(value) < 1e21:
            return str(int(value))
    return str(value)


_INFINITY = float("inf")


def well_formed(text: str) -> str:
    """The text with halves of surrogate pairs as U+FFFD, as JavaScript does it: they have no UTF-8."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return _SURROGATE.sub("\ufffd", text)
    return text


_SURROGATE = re.compile("[\ud800-\udfff]")


def date(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
