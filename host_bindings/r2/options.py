"""Guests' options for R2, read and validated with the error texts that Cloudflare's runtime gives."""

from __future__ import annotations

import base64
import json
import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from host_bindings.contract import Failure
from host_bindings.options import as_object, not_of_type, number_text, to_int32, to_number, to_text, without_surrogates
from host_bindings.r2.errors import invalid_max_keys, metadata_too_large
from host_bindings.r2.objects import HASHES, Attributes, Checksum, Conditions, Etag, Range

LIST_KEYS_MAX = 1000
LIST_KEYS_WITH_METADATA_MAX = 100
"""With metadata a page has fewer objects than it could, as in R2."""

CUSTOM_METADATA_BYTES_MAX = 8192
HTTP_METADATA_BYTES_MAX = 8192

STORAGE_CLASSES = ("Standard", "InfrequentAccess")
INCLUDE = ("httpMetadata", "customMetadata")

HTTP_METADATA = {
    "contentType": "content-type",
    "contentLanguage": "content-language",
    "contentDisposition": "content-disposition",
    "contentEncoding": "content-encoding",
    "cacheControl": "cache-control",
}
"""Fields of HTTP metadata that are text, with the headers they stand for. `cacheExpiry` (Expires) is a time."""

_HEX_DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128}

_ETAG_SIGN = re.compile(r'[ \t]*(?P<sign>,|\*|"|W/"|W)')


def conditions(given: dict[str, Any], owner: str) -> Conditions | None:
    """The option `onlyIf` of `owner` (GetOptions, PutOptions): an object of conditions or of headers."""
    if "onlyIf" not in given:
        return None
    only_if = as_object(given["onlyIf"], not_of_type("onlyIf", owner, "Conditional or Headers"))
    if "headers" in only_if:
        return _header_conditions(headers(to_text(only_if["headers"])))
    return Conditions(
        etag_matches=_single_etag(only_if, "etagMatches"),
        etag_does_not_match=_single_etag(only_if, "etagDoesNotMatch"),
        uploaded_before_ms=_time_ms(only_if, "uploadedBefore", "Conditional"),
        uploaded_after_ms=_time_ms(only_if, "uploadedAfter", "Conditional"),
        whole_seconds=bool(only_if.get("secondsGranularity")),
    )


def byte_range(given: dict[str, Any]) -> Range | None:
    """The option `range`: an object of numbers or of headers."""
    if "range" not in given:
        return None
    wanted = as_object(given["range"], not_of_type("range", "GetOptions", "Range or Headers"))
    if "headers" in wanted:
        header = headers(to_text(wanted["headers"])).get("range")
        return Range(header=header) if header is not None else None
    offset = _position(wanted, "offset", "Invalid range. Starting offset")
    length = _position(wanted, "length", "Invalid range. Length")
    if "suffix" in wanted:
        if offset is not None:
            raise Failure("TypeError", "Suffix is incompatible with offset.")
        if length is not None:
            raise Failure("TypeError", "Suffix is incompatible with length.")
        return Range(suffix=_position(wanted, "suffix", "Invalid suffix. Suffix"))
    return Range(offset, length)


def attributes(given: dict[str, Any], owner: str) -> Attributes:
    """The options `httpMetadata`, `customMetadata` and `storageClass` of `owner` (PutOptions, MultipartOptions)."""
    storage_class = to_text(given.get("storageClass", STORAGE_CLASSES[0]))
    if storage_class not in STORAGE_CLASSES:
        raise Failure("TypeError", f"Unsupported storageClass. Possible values are {' and '.join(STORAGE_CLASSES)}.")
    return Attributes(_http_metadata(given, owner), _custom_metadata(given, owner), storage_class)


def check_metadata_size(attributes: Attributes) -> None:
    """Raises `R2Error` if there is more metadata than R2 keeps."""
    if len(attributes.http_metadata_json.encode()) > HTTP_METADATA_BYTES_MAX:
        raise metadata_too_large()
    # Even if each character counted as two bytes.
    if 2 * len(attributes.custom_metadata_json) <= CUSTOM_METADATA_BYTES_MAX:
        return
    members: dict[str, str] = json.loads(attributes.custom_metadata_json)
    if sum(_serialised_bytes(text) for member in members.items() for text in member) > CUSTOM_METADATA_BYTES_MAX:
        raise metadata_too_large()


def checksum(given: dict[str, Any]) -> Checksum | None:
    """The one hash that the caller gave, if any."""
    found = [name for name in HASHES if name in given]
    if not found:
        return None
    if len(found) > 1:
        raise Failure("TypeError", "You cannot specify multiple hashing algorithms.")
    name, label = found[0], HASHES[found[0]]
    value = given[name]
    octets = _octets(value)
    if octets is not None:
        if len(octets) * 2 != _HEX_DIGITS[name]:
            raise Failure("TypeError", f"{label} is {_HEX_DIGITS[name] // 2} bytes, not {len(octets)}")
        return Checksum(name, octets.hex())
    if not isinstance(value, str):
        raise Failure("TypeError", not_of_type(name, "PutOptions", "JsBufferSource or string"))
    size = len(value.encode("utf-8", "surrogatepass"))
    if size != _HEX_DIGITS[name]:
        raise Failure("TypeError", f"{label} is {_HEX_DIGITS[name]} hex characters, not {size}")
    if not re.fullmatch("[0-9a-fA-F]*", value):
        raise Failure("TypeError", f"Provided {label} wasn't a valid hex string")
    return Checksum(name, value.lower())


def refuse_key(given: dict[str, Any]) -> None:
    """The option `ssecKey`: raises `Failure`, since storing an object without it would be worse than not storing it."""
    if "ssecKey" not in given:
        return
    value = given["ssecKey"]
    octets = _octets(value)
    text = to_text(value) if octets is None else octets.hex()
    if octets is None and not re.fullmatch("[0-9a-f]+", text):
        raise Failure("Error", "SSE-C Key has invalid format")
    if len(text) != 64:
        raise Failure("Error", "SSE-C Key must be 32 bytes in length")
    raise Failure("Error", "ssecKey is not supported here: objects cannot be encrypted with a key of your own.")


def _octets(value: Any) -> bytes | None:
    """Bytes as options carry them; None for anything else. Raises `Failure` if their base64 is broken."""
    if not isinstance(value, dict) or not isinstance(value.get("$bytes"), str):
        return None
    try:
        return base64.b64decode(value["$bytes"], validate=True)
    except ValueError:
        raise Failure("TypeError", "The bytes in the options are not valid base64.") from None


def included(given: dict[str, Any]) -> tuple[str, ...]:
    """The option `include` of a listing."""
    include = given.get("include", [])
    if not isinstance(include, list):
        raise Failure("TypeError", not_of_type("include", "ListOptions", "Array"))
    for index, name in enumerate(include):
        if not isinstance(name, str):
            raise Failure(
                "TypeError",
                f"Incorrect type for array element {index}: the provided value is not of type 'string'.",
            )
    for name in include:
        if name not in INCLUDE:
            raise Failure("RangeError", f"Unsupported include value {without_surrogates(name[:64])}")
    return tuple(include)


def list_limit(given: dict[str, Any], include: tuple[str, ...]) -> int:
    """The option `limit` of a listing. Raises `R2Error`. -1 counts as absent, as in Cloudflare's runtime."""
    limit = to_int32(given.get("limit", -1))
    if limit == -1:
        limit = LIST_KEYS_MAX
    if not 1 <= limit <= LIST_KEYS_MAX:
        raise invalid_max_keys(LIST_KEYS_MAX)
    return min(limit, LIST_KEYS_WITH_METADATA_MAX) if include else limit


def text_option(given: dict[str, Any], name: str) -> str | None:
    """A text among the options of a listing."""
    return _text(given, name, "ListOptions") if name in given else None


def _text(given: dict[str, Any], name: str, owner: str) -> str:
    value = given[name]
    if not isinstance(value, str):
        raise Failure("TypeError", not_of_type(name, owner, "string"))
    return without_surrogates(value)


def headers(text: str) -> dict[str, str]:
    """Lines of `name: value`; values of a repeated name are joined with a comma."""
    found: dict[str, list[str]] = {}
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip().lower(), []).append(value.strip())
    return {name: ", ".join(values) for name, values in found.items()}


def _header_conditions(given: dict[str, str]) -> Conditions:
    return Conditions(
        etag_matches=_etags(given, "if-match"),
        etag_does_not_match=_etags(given, "if-none-match"),
        uploaded_before_ms=_http_date_ms(given.get("if-unmodified-since")),
        uploaded_after_ms=_http_date_ms(given.get("if-modified-since")),
        whole_seconds=True,
    )


def _etags(given: dict[str, str], name: str) -> tuple[Etag, ...] | None:
    """A header's list of entity tags (RFC 9110, 8.8.3), as Cloudflare's runtime reads it. A wildcard stands alone."""
    if name not in given:
        return None
    header = given[name]
    found: list[Etag] = []
    separated = True
    at = 0
    while match := _ETAG_SIGN.match(header, at):
        sign = match["sign"]
        at = match.end()
        if sign == ",":
            separated = True
            continue
        if not separated:
            raise Failure("Error", f"Comma was expected to separate etags. {_UNSEPARATED[sign[0]]}")
        if sign == "*":
            return (Etag(None),)
        if sign == "W":
            raise Failure("Error", "Weak etags must start with W/ and their value must be quoted")
        end = header.find('"', at)
        if end < 0:
            raise Failure("Error", "Unclosed double quote for Etag")
        found.append(Etag(header[at:end], sign != '"'))
        at = end + 1
        separated = False
    if not found:
        raise Failure("Error", f"Invalid ETag in {name} header")
    return tuple(found)


_UNSEPARATED = {
    "*": "Encountered a wildcard character '*' instead.",
    "W": "Encountered a weak quotation character 'W' instead. This would otherwise indicate the start of a new weak "
    "etag.",
    '"': "Encountered a double quote character '\"' instead. This would otherwise indicate the start of a new strong "
    "etag.",
}


def _single_etag(only_if: dict[str, Any], name: str) -> tuple[Etag, ...] | None:
    if name not in only_if:
        return None
    value = _text(only_if, name, "Conditional")
    if value.startswith('"') and value.endswith('"'):
        raise Failure("TypeError", f"Conditional ETag should not be wrapped in quotes ({value}).")
    return (Etag(None if value == "*" else value),)


def _position(wanted: dict[str, Any], name: str, label: str) -> int | None:
    if name not in wanted:
        return None
    number = to_number(wanted[name])
    if math.isinf(number) and number > 0:
        return _POSITION_MAX
    # These as C++ writes them.
    text = number_text(number) if math.isfinite(number) else "nan" if math.isnan(number) else "-inf"
    if not number >= 0:
        raise Failure("RangeError", f"{label} ({text}) must be greater than or equal to 0.")
    if not number.is_integer():
        # Cloudflare's runtime names the range here for a suffix too.
        label = "Invalid range. Suffix" if name == "suffix" else label
        raise Failure("RangeError", f"{label} ({text}) must be an integer, not floating point.")
    return min(int(number), _POSITION_MAX)


_POSITION_MAX = 2**63 - 1


def _http_metadata(given: dict[str, Any], owner: str) -> str:
    fields = as_object(given.get("httpMetadata"), not_of_type("httpMetadata", owner, "HttpMetadata or Headers"))
    found: dict[str, object] = {}
    if "headers" in fields:
        lines = headers(to_text(fields["headers"]))
        found.update({name: lines[header] for name, header in HTTP_METADATA.items() if header in lines})
        expires_ms = _http_date_ms(lines.get("expires"))
        if expires_ms is not None:
            found["cacheExpiry"] = int(expires_ms)
    else:
        found.update({name: without_surrogates(to_text(fields[name])) for name in HTTP_METADATA if name in fields})
        expires_ms = _time_ms(fields, "cacheExpiry", "HttpMetadata")
        if expires_ms is not None:
            found["cacheExpiry"] = int(expires_ms)
    return json.dumps(found, ensure_ascii=False)


def _custom_metadata(given: dict[str, Any], owner: str) -> str:
    fields = given.get("customMetadata", {})
    if not isinstance(fields, dict):
        raise Failure("TypeError", not_of_type("customMetadata", owner, "object"))
    found = {without_surrogates(name): without_surrogates(to_text(value)) for name, value in fields.items()}
    return json.dumps(found, ensure_ascii=False)


def _serialised_bytes(text: str) -> int:
    """R2 counts a byte for each UTF-16 unit, and two as soon as one of them is beyond Latin-1."""
    if all(character <= "\xff" for character in text):
        return len(text)
    return len(text.encode("utf-16-le"))


def _time_ms(given: dict[str, Any], name: str, owner: str) -> float | None:
    """A time given as milliseconds since 1970, or as ISO 8601 text."""
    if name not in given:
        return None
    value = given[name]
    if isinstance(value, str):
        try:
            return _milliseconds(datetime.fromisoformat(value))
        except ValueError:
            pass
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Failure("TypeError", not_of_type(name, owner, "date"))
    number = to_number(value)
    if not abs(number) <= 8.64e15:
        raise Failure("TypeError", "The value cannot be converted because it is not a valid Date.")
    return number


def _milliseconds(moment: datetime) -> float:
    """Milliseconds since 1970. A datetime without a time zone is UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000


def _http_date_ms(value: str | None) -> float | None:
    """A date of a header; one that cannot be read counts as absent, as RFC 9110 (13.1.3) asks."""
    if value is None:
        return None
    try:
        return _milliseconds(parsedate_to_datetime(value))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
