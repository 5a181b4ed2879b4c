"""Values as bindings give and take them: mappings with attributes, options in either spelling."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

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


def parse_json(text: str) -> Any:
    """JSON as it came from elsewhere. Raises `json.JSONDecodeError` also for NaN and Infinity, which are not JSON."""
    return json.loads(text, object_hook=JsDict, parse_constant=lambda name: _refuse_constant(name, text))


def _refuse_constant(name: str, text: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not valid JSON", text, text.find(name))


_OWN_NAMES = frozenset(("metadata", "customMetadata"))
"""Options whose members the worker names itself: nothing in them is renamed or left out."""


def options_text(positional: Any, keywords: Mapping[str, Any], refusal: str = "Options are a mapping.") -> str:
    """Options for the contract: JSON, names in camelCase, without those that are None. "" if there are none.

    Raises TypeError with `refusal` if the positional ones are not a mapping.
    """
    if positional is not None and not isinstance(positional, Mapping):
        raise TypeError(refusal)
    if not keywords and not positional:
        return ""
    given = {camel(str(name)): value for name, value in {**(positional or {}), **keywords}.items()}
    found = {
        name: value if name in _OWN_NAMES else _option(value) for name, value in given.items() if value is not None
    }
    return json.dumps(found) if found else ""


def _option(value: Any) -> Any:
    if isinstance(value, Headers):
        return {"headers": value.to_text()}
    if isinstance(value, datetime):
        return milliseconds(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(value).decode()}
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
    return _number_text(value) if isinstance(value, float) else str(value)


def key_text(key: Any) -> str:
    """A key as text, as JavaScript hands it to a bucket."""
    return well_formed(javascript_text(key))


def not_of_type(method: str, owner: str, parameter: int, wanted: str) -> str:
    """How JavaScript refuses an argument."""
    return f"Failed to execute '{method}' on '{owner}': parameter {parameter} is not of type '{wanted}'."


def _number_text(number: float) -> str:
    """JavaScript's Number::toString (ECMA-262, 6.1.6.1.20): exponents only below 1e-6 and from 1e21 on."""
    if number != number:
        return "NaN"
    if abs(number) == _INFINITY:
        return "Infinity" if number > 0 else "-Infinity"
    if number == 0:
        return "0"
    mantissa, _, exponent = repr(number).partition("e")
    if not exponent:
        return mantissa.removesuffix(".0")
    place = int(exponent)
    digits = mantissa.lstrip("-").replace(".", "")
    sign = "-" if number < 0 else ""
    if -7 < place < 0:
        return f"{sign}0.{'0' * (-place - 1)}{digits}"
    if 0 < place < 21:
        return sign + digits.ljust(place + 1, "0")
    return f"{mantissa}e{place:+d}"


_INFINITY = float("inf")


def int32(value: Any) -> int:
    """What JavaScript makes of a value for a 32-bit integer parameter. Raises TypeError if it is out of range."""
    try:
        number = float(value or 0)
    except (TypeError, ValueError):
        return 0
    except OverflowError:
        number = _INFINITY
    if number != number:
        return 0
    if not -(2**31) <= number < 2**31:
        raise TypeError("Value out of range. Must be between -2147483648 and 2147483647 (inclusive).")
    return int(number)


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
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970. A datetime without a time zone is local time, as everywhere in Python."""
    aware = moment if moment.tzinfo else moment.astimezone()
    return (aware - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)
