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
from runtime.registry import Module

METADATA_BYTES_MAX = 1024 * 1024
BINDINGS_MAX = 128
TEXT_BYTES_MAX = 64 * 1024
"""The value of a plain_text, secret_text or json binding, as UTF-8."""
RESOURCE_ID_CHARACTERS_MAX = 256
TAGS_MAX = 8

BINDING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_RESOURCE_ID = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{RESOURCE_ID_CHARACTERS_MAX}}}")
_TAG = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff,&]{1,128}")

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_FLAG = re.compile(r"[a-z0-9_]{1,128}")
_FILE_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,512}")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
FLAGS_MAX = 64

_TYPES = get_args(BindingType)
RESOURCE_FIELDS: Mapping[str, tuple[str, ...]] = {
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
class Inherited:
    """A binding that is to be as it was in the version before, where it may have had another name."""

    name: str
    old_name: str


@dataclass(frozen=True)
class WantedBindings:
    """What a caller says of a version's bindings, before it is known which version comes before."""

    given: tuple[Binding, ...] = ()
    inherited: tuple[Inherited, ...] = ()
    keep_types: frozenset[str] = frozenset()
    """Types of bindings that are taken over, unless one of that name is given."""

    def resolve(self, before: Sequence[Binding], *, strict: bool = False) -> tuple[Binding, ...]:
        """The bindings, in the order given and then those kept.

        What cannot be inherited is left out; with `strict` it raises `ControlError` (400).
        """
        found = {binding.name: binding for binding in before}
        names = {binding.name for binding in self.given}
        resolved = list(self.given)
        for wanted in self.inherited:
            names.add(wanted.name)
            if wanted.old_name in found:
                resolved.append(replace(found[wanted.old_name], name=wanted.name))
            elif strict:
                raise invalid(f"metadata.bindings: {wanted.old_name!r} is not a binding of the version before.")
        resolved += [b for b in before if b.type in self.keep_types and b.name not in names]
        if len(resolved) > BINDINGS_MAX:
            raise invalid(f"metadata.bindings: there would be {len(resolved)}; at most {BINDINGS_MAX} are allowed.")
        return tuple(resolved)


@dataclass(frozen=True)
class UploadMetadata:
    module: Module
    wanted: WantedBindings
    limits: Limits
    tags: tuple[str, ...] | None
    """None: the script's stay as they are."""
    message: str = ""
    tag: str = ""

    @property
    def main_module(self) -> str:
        return self.module.name

    @property
    def bindings(self) -> tuple[Binding, ...]:
        return self.wanted.given


def parse_metadata(text: bytes, policy: LimitPolicy | None = None) -> UploadMetadata:
    """Reads the metadata part. Fields that mean nothing here (logpush, say) are let pass.

    `policy` has the operator's limits. Raises `ControlError` (400) with a sentence that names the field.
    """
    return read_metadata(parse_json(text, "metadata"), policy or LimitPolicy())


def read_metadata(metadata: object, policy: LimitPolicy, *, with_module: bool = True) -> UploadMetadata:
    """`with_module`: whether it must name the part that holds the component."""
    if not isinstance(metadata, dict):
        raise invalid("metadata: must be a JSON object.")
    main_module = metadata.get("main_module")
    if with_module and (not isinstance(main_module, str) or not main_module):
        raise invalid("metadata.main_module: is missing; it names the part that holds the component.")
    message, tag = _annotations(metadata.get("annotations"))
    return UploadMetadata(
        module=read_module(metadata, str(main_module or Module.name)),
        wanted=read_bindings(metadata),
        limits=read_limits(metadata.get("limits"), policy),
        tags=None if metadata.get("tags") is None else read_tags(_list(metadata, "tags")),
        message=message,
        tag=tag,
    )


def read_bindings(metadata: dict[str, Any], before: Mapping[str, Binding] | None = None) -> WantedBindings:
    """Reads `bindings` and `keep_bindings`.

    With `before`, an entry without a value means the binding of that name as it was: so clients send back what they
    were shown of a secret.
    """
    entries = _list(metadata, "bindings")
    if len(entries) > BINDINGS_MAX:
        raise invalid(f"metadata.bindings: there are {len(entries)}; at most {BINDINGS_MAX} are allowed.")
    given: list[Binding] = []
    inherited: list[Inherited] = []
    names: set[str] = set()
    for index, entry in enumerate(entries):
        where = f"metadata.bindings[{index}]"
        if not isinstance(entry, dict):
            raise invalid(f"{where}: must be an object with type and name.")
        name = _name(entry.get("name"), f"{where}.name")
        if name in names:
            raise invalid(f"{where}.name: {name!r} is there twice; names must differ.")
        names.add(name)
        if entry.get("type") == "inherit":
            old_name = entry.get("old_name")
            inherited.append(Inherited(name, name if old_name is None else _name(old_name, f"{where}.old_name")))
        elif before is not None and entry.keys() <= {"type", "name"} and name in before:
            inherited.append(Inherited(name, name))
        else:
            given.append(_binding(entry, name, where))
    kept = frozenset(kind for kind in _list(metadata, "keep_bindings") if isinstance(kind, str))
    flags = _list(metadata, "compatibility_flags")
    return WantedBindings(with_flags(given, flags), tuple(inherited), kept)


def with_flags(bindings: Sequence[Binding], flags: Sequence[object]) -> tuple[Binding, ...]:
    """The bindings as a worker with these compatibility flags has them."""
    if JS_TYPES_FLAG not in flags:
        return tuple(bindings)
    return tuple(replace(binding, js_types=True) if binding.type == "d1" else binding for binding in bindings)


def read_module(metadata: dict[str, Any], name: str) -> Module:
    date, flags = metadata.get("compatibility_date"), _list(metadata, "compatibility_flags")
    if date is not None and not (isinstance(date, str) and _DATE.fullmatch(date)):
        raise invalid("metadata.compatibility_date: must be a date such as 2026-01-31.")
    if len(flags) > FLAGS_MAX or not all(isinstance(flag, str) and _FLAG.fullmatch(flag) for flag in flags):
        raise invalid(f"metadata.compatibility_flags: must be at most {FLAGS_MAX} names of letters, digits and '_'.")
    if not _FILE_NAME.fullmatch(name):
        raise invalid("metadata.main_module: must be a name of at most 512 printable characters.")
    return Module(name, date, tuple(dict.fromkeys(flags)))


def _annotations(given: object) -> tuple[str, str]:
    """Message and tag, as wrangler calls them."""
    found = given if isinstance(given, dict) else {}
    message, tag = found.get("workers/message") or "", found.get("workers/tag") or ""
    for value, name in ((message, "message"), (tag, "tag")):
        if not isinstance(value, str) or len(value) > 1000 or _SURROGATE.search(value):
            raise invalid(f"metadata.annotations: workers/{name} must be text of at most 1000 characters.")
    return message, tag


def parse_json(text: bytes, name: str) -> object:
    """Raises `ControlError` (400) in which the text is called `name`."""
    try:
        return json.loads(text.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise invalid(f"{name}: is not JSON.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _list(metadata: dict[str, Any], field: str) -> list[Any]:
    value = metadata.get(field)
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid(f"metadata.{field}: must be a list.")
    return value


def _name(name: object, where: str) -> str:
    if not isinstance(name, str) or not BINDING_NAME.fullmatch(name):
        raise invalid(
            f"{where}: {_shown(name)} is not valid; a name is 1 to 128 letters, digits and underscores and does "
            "not begin with a digit."
        )
    return name


def _binding(entry: dict[str, Any], name: str, where: str) -> Binding:
    kind = entry.get("type")
    if kind not in _TYPES:
        raise invalid(f"{where}.type: {_shown(kind)} is not offered here; a binding is one of {', '.join(_TYPES)}.")
    kind = cast(BindingType, kind)
    if kind in RESOURCE_FIELDS:
        js_types = kind == "d1" and entry.get("js_types") is True
        return Binding(kind, name, resource_id=_resource_id(entry, kind, where), js_types=js_types)
    return Binding(kind, name, value=_value(entry, kind, where))


def _resource_id(entry: dict[str, Any], kind: str, where: str) -> str:
    fields = RESOURCE_FIELDS[kind]
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


def read_limits(given: object, policy: LimitPolicy) -> Limits:
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
    except UnicodeEncodeError:
        raise invalid("metadata.limits: has half a character in it (a lone surrogate).") from None


def read_tags(tags: list[Any]) -> tuple[str, ...]:
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
