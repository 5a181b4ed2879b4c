"""A worker's configuration as wrangler has it: wrangler.jsonc, wrangler.json or wrangler.toml in its folder."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILES = ("wrangler.jsonc", "wrangler.json", "wrangler.toml")

_KNOWN = {
    "$schema",
    "name",
    "main",
    "compatibility_date",
    "compatibility_flags",
    "kv_namespaces",
    "r2_buckets",
    "d1_databases",
    "vars",
    "limits",
    "tags",
}


class ConfigurationError(Exception):
    """The configuration cannot be used; the message names the file, the field and what is wrong."""


@dataclass(frozen=True)
class Configuration:
    """What a worker's folder says of it. `bindings` are in the form of the upload's metadata."""

    name: str
    main: Path
    bindings: tuple[dict[str, Any], ...] = field(repr=False)
    limits: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What was ignored, a sentence each."""


def read_configuration(project: Path) -> Configuration:
    """The configuration in a folder. Raises `ConfigurationError`."""
    file = next((project / name for name in FILES if (project / name).is_file()), None)
    if file is None:
        raise ConfigurationError(f"{project}: there is no {', '.join(FILES[:-1])} or {FILES[-1]} in this folder.")
    reader = _Reader(file, _parse(file))
    name = reader.text(reader.content, "name", "")
    main = reader.text(reader.content, "main", "")
    path = project / main
    if not path.is_file():
        raise ConfigurationError(f"{file}: main: there is no file {main}.")
    if path.suffix != ".py":
        raise ConfigurationError(f"{file}: main: {main} is not a Python file.")
    bindings = reader.bindings()
    names = [binding["name"] for binding in bindings]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise ConfigurationError(f"{file}: two bindings have the name {doubled}.")
    unknown = sorted(set(reader.content) - _KNOWN)
    notes = tuple(f"{file.name}: {key} is not supported here and is ignored." for key in unknown)
    limits = reader.table("limits")
    tags = tuple(str(tag) for tag in reader.list_of("tags"))
    return Configuration(name, path, tuple(bindings), limits, tags, notes)


@dataclass(frozen=True)
class MigrationSettings:
    """Where a database's migrations are, and the table that records those that were applied."""

    directory: Path
    table: str

    def files(self) -> list[Path]:
        """In the order in which they are applied."""
        return sorted(self.directory.glob("*.sql"))


def read_migration_settings(project: Path, database: str) -> MigrationSettings:
    """Those of the database with this binding, name or id in a folder's configuration. Raises `ConfigurationError`."""
    file = next((project / name for name in FILES if (project / name).is_file()), None)
    if file is None:
        return MigrationSettings(project / "migrations", "d1_migrations")
    for entry in _Reader(file, _parse(file)).list_of("d1_databases"):
        if isinstance(entry, dict) and database in (
            entry.get("binding"),
            entry.get("database_name"),
            entry.get("database_id"),
        ):
            directory, table = entry.get("migrations_dir", "migrations"), entry.get("migrations_table", "d1_migrations")
            if not isinstance(directory, str) or not isinstance(table, str):
                raise ConfigurationError(f"{file}: migrations_dir and migrations_table must be texts.")
            return MigrationSettings(project / directory, table)
    raise ConfigurationError(f"{file}: d1_databases has no database {database}.")


class _Reader:
    """Takes fields out of a parsed file; every complaint names the file and the field."""

    def __init__(self, file: Path, content: Any) -> None:
        self.file = file
        if not isinstance(content, dict):
            raise ConfigurationError(f"{file}: the configuration must be an object.")
        self.content: dict[str, Any] = content

    def text(self, table: Any, key: str, where: str) -> str:
        value = table.get(key) if isinstance(table, dict) else None
        if not isinstance(value, str) or not value:
            raise ConfigurationError(f"{self.file}: {where}{key} must be given, as a text.")
        return value

    def table(self, key: str) -> dict[str, Any]:
        value = self.content.get(key, {})
        if not isinstance(value, dict):
            raise ConfigurationError(f"{self.file}: {key} must be an object.")
        return value

    def list_of(self, key: str) -> list[Any]:
        value = self.content.get(key, [])
        if not isinstance(value, list):
            raise ConfigurationError(f"{self.file}: {key} must be a list.")
        return value

    def bindings(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for key, kind, field_name, sources in (
            ("kv_namespaces", "kv_namespace", "namespace_id", ("id",)),
            ("r2_buckets", "r2_bucket", "bucket_name", ("bucket_name",)),
            ("d1_databases", "d1", "id", ("database_id", "database_name")),
        ):
            for i, entry in enumerate(self.list_of(key)):
                where = f"{key}[{i}]."
                name = self.text(entry, "binding", where)
                source = next((s for s in sources if isinstance(entry, dict) and entry.get(s)), sources[0])
                described: dict[str, Any] = {"type": kind, "name": name, field_name: self.text(entry, source, where)}
                if kind == "d1" and "d1_js_types" in self.list_of("compatibility_flags"):
                    described["js_types"] = True
                found.append(described)
        for name, value in self.table("vars").items():
            if isinstance(value, str):
                found.append({"type": "plain_text", "name": name, "text": value})
            else:
                found.append({"type": "json", "name": name, "json": value})
        return found


def _parse(file: Path) -> Any:
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix == ".toml":
            return tomllib.loads(text)
        return json.loads(strip_comments(text))
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file}: the file is not UTF-8 text.") from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise ConfigurationError(f"{file}: {error}") from None


_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING_COMMA = re.compile(r'("(?:[^"\\\n]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)


def strip_comments(text: str) -> str:
    """JSON with comments and trailing commas as plain JSON; lines and columns stay where they are."""

    def blank(match: re.Match[str]) -> str:
        token = match[0]
        return token if token[0] == '"' else re.sub(r"[^\n]", " ", token)

    return _TRAILING_COMMA.sub(lambda match: match[1] or " ", _TOKEN.sub(blank, text))
