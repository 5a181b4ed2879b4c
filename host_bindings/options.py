"""The JSON in which guests give options, read the way that JavaScript's bindings read objects.

Guests are hostile: the text may be anything. Unknown options are ignored, absent and null mean the default, and numbers
are converted as JavaScript converts them, since the error texts that clients know depend on it.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from host_bindings.contract import Failure

OPTIONS_BYTES_MAX = 256 * 1024

_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER = re.compile("0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+")
_NAMED_NUMBERS = {"": 0.0, "Infinity": math.inf, "+Infinity": math.inf, "-Infinity": -math.inf}

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
    return as_object(parse_json(text, "options"), "The options are not an object.")


def as_object(value: Any, refusal: str) -> dict[str, Any]:
    """The members that are set of a JSON object; none for null.

    Raises `Failure` (TypeError) with `refusal` for other values.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Failure("TypeError", refusal)
    return {name: member for name, member in value.items() if member is not None}


def not_of_type(field: str, owner: str, wanted: str) -> str:
    """How Cloudflare's runtime refuses a member of an object of options."""
    return f"Incorrect type for the '{field}' field on '{owner}': the provided value is not of type '{wanted}'."


def to_number(value: Any) -> float:
    """JavaScript's Number(value)."""
    if isinstance(value, (bool, int, float)):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if isinstance(value, str):
        text = value.strip()
        if _DECIMAL.fullmatch(text):
            return float(text)
        if _INTEGER.fullmatch(text):
            return to_number(int(text, 0))
        return _NAMED_NUMBERS.get(text, math.nan)
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
    """JavaScript's String(value). Raises `Failure` (RangeError) for arrays that are nested too deep."""
    try:
        return _text(value)
    except RecursionError:
        raise Failure("RangeError", "An option is nested too deep.") from None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, (int, float)):
        return number_text(value)
    if isinstance(value, list):
        return ",".join("" if element is None else _text(element) for element in value)
    return "[object Object]"


def number_text(number: float) -> str:
    """A number as JavaScript writes it: with an exponent only below 1e-6 and from 1e21 on (ECMA-262, 6.1.6.1.20)."""
    if not isinstance(number, float):
        return str(number)
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
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


def without_surrogates(text: str) -> str:
    """JSON escapes can make lone surrogates, which have no UTF-8; as in JavaScript they become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
