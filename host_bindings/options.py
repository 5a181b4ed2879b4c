"""The JSON in which guests give options, read the way that JavaScript's bindings read objects.

Guests are hostile: the text may be anything. Unknown options are ignored, absent and null mean the default, and numbers
are converted as JavaScript converts them, since the error texts that clients know depend on it.
"""

from __future__ import annotations

import json
import math
from typing import Any

from host_bindings.contract import Failure

OPTIONS_BYTES_MAX = 256 * 1024

INT32_MIN = -(2**31)
INT32_MAX = 2**31 - 1


def parse_json(text: str, what: str) -> Any:
    """The value of a JSON text. Raises `Failure` (TypeError, with `what` in its message) if it is not one."""
    if len(text) > OPTIONS_BYTES_MAX:
        raise Failure("TypeError", f"The {what} are longer than {OPTIONS_BYTES_MAX} bytes.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Failure("TypeError", f"The {what} are not valid JSON.") from None


def parse_options(text: str) -> dict[str, Any]:
    """The options that are set. Raises `Failure` (TypeError) if `text` is not a JSON object."""
    if not text:
        return {}
    return as_object(parse_json(text, "options"), "options")


def as_object(value: Any, what: str) -> dict[str, Any]:
    """The members that are set of a JSON object; none for null. Raises `Failure` (TypeError) for other values."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Failure("TypeError", f"Incorrect type for the {what}: the provided value is not an object.")
    return {name: member for name, member in value.items() if member is not None}


def to_number(value: Any) -> float:
    """JavaScript's Number(value)."""
    if isinstance(value, (bool, int, float)):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if isinstance(value, str):
        try:
            return float(value) if value.strip() else 0.0
        except ValueError:
            return math.nan
    return math.nan


def to_int32(value: Any) -> int:
    """What a 32-bit integer parameter makes of a value: fractions are cut off, NaN is 0.

    Raises `Failure` (TypeError) if it is out of range.
    """
    number = to_number(value)
    if math.isnan(number):
        return 0
    if not INT32_MIN <= number <= INT32_MAX:
        raise Failure("TypeError", f"Value out of range. Must be between {INT32_MIN} and {INT32_MAX} (inclusive).")
    return math.trunc(number)


def to_text(value: Any) -> str:
    """JavaScript's String(value)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, (int, float)):
        return number_text(value)
    if isinstance(value, list):
        return ",".join("" if element is None else to_text(element) for element in value)
    return "[object Object]"


def number_text(number: float) -> str:
    """A number as JavaScript writes it, as far as its size is usual."""
    if isinstance(number, float):
        if math.isnan(number):
            return "NaN"
        if math.isinf(number):
            return "Infinity" if number > 0 else "-Infinity"
        if number.is_integer() and abs(number) < 1e21:
            return str(int(number))
    return str(number)


def without_surrogates(text: str) -> str:
    """JSON escapes can make lone surrogates, which have no UTF-8; as in JavaScript they become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
