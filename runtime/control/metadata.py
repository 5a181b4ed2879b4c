"""An upload's `metadata`: from JSON that anyone may have written to bindings, limits and tags that can be deployed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, cast, get_args

from host_bindings.scope import Binding, BindingType
from runtime.control.envelope import invalid
from runtime.engine.limits import InvalidLimits, LimitPolicy, Limits

METADATA_BYTES_MAX = 1024 * 1024
BINDINGS_MAX = 128
TEXT_BYTES_MAX = 64 * 1024
"""The value of a plain_text, secret_text or json binding, as UTF-8."""
RESOURCE_ID_CHARACTERS_MAX = 256
TAGS_MAX = 8

BINDING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_RESOURCE_ID = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{RESOURCE_ID_CHARACTERS_MAX}}}")
_TAG = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff,&]{1,128}")

_TYPES = get_args(BindingType)
_RESOURCE_FIELDS: Mapping[str, tuple[str, ...]] = {
    "kv_namespace": ("namespace_id",),
    "r2_bucket": ("bucket_name",),
    "d1": ("id", "database_id"),
}
"""The fields that may hold the resource's id, by type: Cloudflare's clients name a database in two ways."""

_LIMIT_NAMES = {"subrequests": "host_calls_max"}
"""Cloudflare's names of limits that have another name here."""

JS_TYPES_FLAG = "d1_js_types"
"""The compatibility flag that gives all D1 bindings `js_types`."""


@dataclass(frozen=True)
class UploadMetadata:
    main_module: str
    bindings: tuple[Binding, ...]
    limits: Limits
    tags: tuple[str, ...]
    keep_bindings: frozenset[str]
    """Types of bindings that are taken over from the version before, unless one of that name is given."""


def parse_metadata(text: bytes, policy: LimitPolicy | None = None) -> UploadMetadata:
    """Reads the metadata part. Fields that mean nothing here (compatibility_date, say) are let pass.

    `policy` has the operator's limits. Raises `ControlError` (400) with a sentence that names the field.
    """
    return read_metadata(_parse_json(text), policy or LimitPolicy())


def read_metadata(metadata: object, policy: LimitPolicy) -> UploadMetadata:
    if not isinstance(metadata, dict):
        raise invalid("metadata: must be a JSON object.")
    main_module = metadata.get("main_module")
    if not isinstance(main_module, str) or not main_module:
        raise invalid("metadata.main_module: is missing; it names the part that holds the component.")
    entries = _list(metadata, "bindings")
    if len(entries) > BINDINGS_MAX:
        raise invalid(f"metadata.bindings: there are {len(entries)}; at most {BINDINGS_MAX} are allowed.")
    bindings = tuple(_binding(entry, f"metadata.bindings[{index}]") for index, entry in enumerate(entries))
    if JS_TYPES_FLAG in _list(metadata, "compatibility_flags"):
        bindings = tuple(replace(binding, js_types=True) if binding.type == "d1" else binding for binding in bindings)
    names: set[str] = set()
    for index, binding in enumerate(bindings):
        if binding.name in names:
            raise invalid(f"metadata.bindings[{index}].name: {binding.name!r} is there twice; names must differ.")
        names.add(binding.name)
    return UploadMetadata(
        main_module=main_module,
        bindings=bindings,
        limits=_limits(metadata.get("limits"), policy),
        tags=_tags(_list(metadata, "tags")),
        keep_bindings=frozenset(kind for kind in _list(metadata, "keep_bindings") if isinstance(kind, str)),
    )


def kept_bindings(metadata: UploadMetadata, before: Sequence[Binding]) -> tuple[Binding, ...]:
    """The upload's bindings and those of the version before that it asks to keep."""
    names = {binding.name for binding in metadata.bindings}
    kept = [b for b in before if b.type in metadata.keep_bindings and b.name not in names]
    return (*metadata.bindings, *kept)


def _parse_json(text: bytes) -> object:
    try:
        return json.loads(text.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise invalid("metadata: is not JSON.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _list(metadata: dict[str, Any], field: str) -> list[Any]:
    value = metadata.get(field)
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid(f"metadata.{field}: must be a list.")
    return value


def _binding(entry: object, where: str) -> Binding:
    if not isinstance(entry, dict):
        raise invalid(f"{where}: must be an object with type and name.")
    kind, name = entry.get("type"), entry.get("name")
    if kind not in _TYPES:
        raise invalid(f"{where}.type: {_shown(kind)} is not offered here; a binding is one of {', '.join(_TYPES)}.")
    if not isinstance(name, str) or not BINDING_NAME.fullmatch(name):
        raise invalid(
            f"{where}.name: {_shown(name)} is not valid; a name is 1 to 128 letters, digits and underscores and does "
            "not begin with a digit."
        )
    kind = cast(BindingType, kind)
    if kind in _RESOURCE_FIELDS:
        js_types = kind == "d1" and entry.get("js_types") is True
        return Binding(kind, name, resource_id=_resource_id(entry, kind, where), js_types=js_types)
    return Binding(kind, name, value=_value(entry, kind, where))


def _resource_id(entry: dict[str, Any], kind: str, where: str) -> str:
    fields = _RESOURCE_FIELDS[kind]
    found = [entry[field] for field in fields if entry.get(field) is not None]
    if not found:
        raise invalid(f"{where}.{fields[0]}: is missing; it names the resource of this {kind} binding.")
    if not isinstance(found[0], str) or not _RESOURCE_ID.fullmatch(found[0]):
        raise invalid(f"{where}.{fields[0]}: must be text of 1 to {RESOURCE_ID_CHARACTERS_MAX} printable characters.")
    return found[0]


def _value(entry: dict[str, Any], kind: str, where: str) -> object:
    field = "json" if kind == "json" else "text"
    if field not in entry:
        raise invalid(f"{where}.{field}: is missing; it holds the value of this {kind} binding.")
    value: object = entry[field]
    try:
        if kind == "json":
            size = len(json.dumps(value, ensure_ascii=False).encode())
        elif isinstance(value, str):
            size = len(value.encode())
        else:
            raise invalid(f"{where}.text: must be text.")
    except UnicodeEncodeError:
        raise invalid(f"{where}.{field}: has half a character in it (a lone surrogate).") from None
    if size > TEXT_BYTES_MAX:
        raise invalid(f"{where}.{field}: has {size} bytes; at most {TEXT_BYTES_MAX} are allowed.")
    return value


def _limits(given: object, policy: LimitPolicy) -> Limits:
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise invalid("metadata.limits: must be an object.")
    values = {_LIMIT_NAMES.get(str(name), str(name)): value for name, value in given.items() if value is not None}
    try:
        return policy.read(values)
    except InvalidLimits as error:
        where = f"metadata.limits.{error.name}" if error.name else "metadata.limits"
        raise invalid(f"{where}: {error.sentence}.") from None


def _tags(tags: list[Any]) -> tuple[str, ...]:
    if len(tags) > TAGS_MAX:
        raise invalid(f"metadata.tags: there are {len(tags)}; at most {TAGS_MAX} are allowed.")
    for tag in tags:
        if not isinstance(tag, str) or not _TAG.fullmatch(tag):
            raise invalid(f"metadata.tags: {_shown(tag)} is not valid; a tag is text without ',' and '&'.")
    return tuple(dict.fromkeys(tags))


def _shown(value: object) -> str:
    """A value that somebody sent, short enough and harmless in a message."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
