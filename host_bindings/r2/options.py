"""Guests' options for R2, read and validated with the error texts that Cloudflare's runtime gives."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from host_bindings.contract import Failure
from host_bindings.options import as_object, number_text, to_int32, to_number, to_text, without_surrogates
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

_ETAG = re.compile(r'[ \t,]*(?:(\*)|(W/)?"([^"]*)")')


def conditions(given: dict[str, Any]) -> Conditions | None:
    """The option `onlyIf`: an object of conditions or of headers."""
    if "onlyIf" not in given:
        return None
    only_if = as_object(given["onlyIf"], "onlyIf option")
    if "headers" in only_if:
        return _header_conditions(headers(to_text(only_if["headers"])))
    return Conditions(
        etag_matches=_single_etag(only_if, "etagMatches"),
        etag_does_not_match=_single_etag(only_if, "etagDoesNotMatch"),
        uploaded_before_ms=_time_ms(only_if["uploadedBefore"]) if "uploadedBefore" in only_if else None,
        uploaded_after_ms=_time_ms(only_if["uploadedAfter"]) if "uploadedAfter" in only_if else None,
        whole_seconds=bool(only_if.get("secondsGranularity")),
    )


def byte_range(given: dict[str, Any]) -> Range | None:
    """The option `range`: an object of numbers or of headers."""
    if "range" not in given:
        return None
    wanted = as_object(given["range"], "range option")
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
    return Range(offset, length) if offset is not None or length is not None else None


def attributes(given: dict[str, Any]) -> Attributes:
    """The options `httpMetadata`, `customMetadata` and `storageClass`."""
    storage_class = to_text(given.get("storageClass", STORAGE_CLASSES[0]))
    if storage_class not in STORAGE_CLASSES:
        raise Failure("TypeError", f"Unsupported storageClass. Possible values are {' and '.join(STORAGE_CLASSES)}.")
    return Attributes(_http_metadata(given), _custom_metadata(given), storage_class)


def checksum(given: dict[str, Any]) -> Checksum | None:
    """The one hash that the caller gave, if any."""
    found = [name for name in HASHES if name in given]
    if not found:
        return None
    if len(found) > 1:
        raise Failure("TypeError", "You cannot specify multiple hashing algorithms.")
    name, label = found[0], HASHES[found[0]]
    value = to_text(given[name])
    if len(value) != _HEX_DIGITS[name]:
        raise Failure("TypeError", f"{label} is {_HEX_DIGITS[name]} hex characters, not {len(value)}")
    if not re.fullmatch("[0-9a-fA-F]*", value):
        raise Failure("TypeError", f"Provided {label} wasn't a valid hex string")
    return Checksum(name, value.lower())


def included(given: dict[str, Any]) -> tuple[str, ...]:
    """The option `include` of a listing."""
    include = given.get("include", [])
    if not isinstance(include, list):
        raise Failure("TypeError", "Incorrect type for the include option: the provided value is not an array.")
    names = [to_text(name) for name in include]
    for name in names:
        if name not in INCLUDE:
            raise Failure("RangeError", f"Unsupported include value {without_surrogates(name[:64])}")
    return tuple(names)


def list_limit(given: dict[str, Any], include: tuple[str, ...]) -> int:
    """The option `limit` of a listing. Raises `R2Error`. -1 counts as absent, as in Cloudflare's runtime."""
    limit = to_int32(given.get("limit", -1))
    if limit == -1:
        limit = LIST_KEYS_MAX
    if not 1 <= limit <= LIST_KEYS_MAX:
        raise invalid_max_keys(LIST_KEYS_MAX)
    return min(limit, LIST_KEYS_WITH_METADATA_MAX) if include else limit


def text_option(given: dict[str, Any], name: str) -> str | None:
    return without_surrogates(to_text(given[name])) if name in given else None


def headers(text: str) -> dict[str, str]:
    """Lines of `name: value`; values of a repeated name are joined with a comma."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            name, value = name.strip().lower(), value.strip()
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _header_conditions(given: dict[str, str]) -> Conditions:
    return Conditions(
        etag_matches=_etags(given["if-match"]) if "if-match" in given else None,
        etag_does_not_match=_etags(given["if-none-match"]) if "if-none-match" in given else None,
        uploaded_before_ms=_http_date_ms(given.get("if-unmodified-since")),
        uploaded_after_ms=_http_date_ms(given.get("if-modified-since")),
        whole_seconds=True,
    )


def _etags(header: str) -> tuple[Etag, ...]:
    """A list of entity tags. A wildcard stands for all of them."""
    found: list[Etag] = []
    at = 0
    while at < len(header) and ('"' in header[at:] or "*" in header[at:]):
        match = _ETAG.match(header, at)
        if match is None or (found and "," not in header[at : match.start(match.lastindex or 0)]):
            raise Failure("Error", "Invalid conditional header")
        wildcard, weak, value = match.groups()
        if wildcard:
            return (Etag(None),)
        found.append(Etag(value, weak is not None))
        at = match.end()
    return tuple(found)


def _single_etag(only_if: dict[str, Any], name: str) -> tuple[Etag, ...] | None:
    if name not in only_if:
        return None
    value = without_surrogates(to_text(only_if[name]))
    if value.startswith('"') and value.endswith('"'):
        raise Failure("TypeError", f"Conditional ETag should not be wrapped in quotes ({value}).")
    return (Etag(None if value == "*" else value),)


def _position(wanted: dict[str, Any], name: str, label: str) -> int | None:
    if name not in wanted:
        return None
    number = to_number(wanted[name])
    text = number_text(number)
    if not number >= 0:
        raise Failure("RangeError", f"{label} ({text}) must be greater than or equal to 0.")
    if not number.is_integer():
        # Cloudflare's runtime names the range here for a suffix too.
        label = "Invalid range. Suffix" if name == "suffix" else label
        raise Failure("RangeError", f"{label} ({text}) must be an integer, not floating point.")
    return min(int(number), 2**63 - 1)


def _http_metadata(given: dict[str, Any]) -> str:
    fields = as_object(given.get("httpMetadata"), "httpMetadata option")
    found: dict[str, object] = {}
    if "headers" in fields:
        lines = headers(to_text(fields["headers"]))
        found.update({name: lines[header] for name, header in HTTP_METADATA.items() if header in lines})
        expires_ms = _http_date_ms(lines.get("expires"))
        if expires_ms is not None:
            found["cacheExpiry"] = int(expires_ms)
    else:
        found.update({name: without_surrogates(to_text(fields[name])) for name in HTTP_METADATA if name in fields})
        if "cacheExpiry" in fields:
            found["cacheExpiry"] = int(_time_ms(fields["cacheExpiry"]))
    text = json.dumps(found, ensure_ascii=False)
    if len(text.encode()) > HTTP_METADATA_BYTES_MAX:
        raise metadata_too_large()
    return text


def _custom_metadata(given: dict[str, Any]) -> str:
    fields = as_object(given.get("customMetadata"), "customMetadata option")
    found = {without_surrogates(name): without_surrogates(to_text(value)) for name, value in fields.items()}
    if sum(_serialised_bytes(name) + _serialised_bytes(value) for name, value in found.items()) > (
        CUSTOM_METADATA_BYTES_MAX
    ):
        raise metadata_too_large()
    return json.dumps(found, ensure_ascii=False)


def _serialised_bytes(text: str) -> int:
    """R2 counts a byte for each UTF-16 unit, and two as soon as one of them is beyond Latin-1."""
    if all(character <= "\xff" for character in text):
        return len(text)
    return len(text.encode("utf-16-le"))


def _time_ms(value: Any) -> float:
    """A time given as milliseconds since 1970, or as ISO 8601 text."""
    number = math.nan
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            number = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
        except (ValueError, OverflowError):
            parsed = _http_date_ms(value)
            number = math.nan if parsed is None else parsed
    elif not isinstance(value, bool):
        number = to_number(value)
    if not abs(number) <= 8.64e15:
        raise Failure("TypeError", "Invalid Date")
    return number


def _http_date_ms(value: str | None) -> float | None:
    """A date of a header; one that cannot be read counts as absent, as RFC 9110 (13.1.3) asks."""
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
