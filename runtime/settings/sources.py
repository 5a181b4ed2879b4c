"""Where each setting comes from: an option, else the environment, else the settings file, else its default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from runtime.settings.file import FILE_NAME, read_file
from runtime.settings.model import ServerSettings, SettingsError
from runtime.settings.values import kind_of

ENVIRONMENT_PREFIX = "CLOISTER_"
"""The environment variable that sets a setting is this and the setting's name in capitals."""

_FILE_VARIABLE = ENVIRONMENT_PREFIX + "CONFIG"

_STANDARD: Mapping[str, tuple[str, ...]] = {
    "traces_endpoint": ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "traces_headers": ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"),
    "traces_ratio": ("OTEL_TRACES_SAMPLER_ARG",),
    "traces_service": ("OTEL_SERVICE_NAME",),
}
"""OpenTelemetry's own variables, which are heeded where ours are not set."""

_OTLP_BASE = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""An address to which each kind of signal adds its path, unlike the one for traces alone."""

Source = Literal["option", "environment", "file", "default"]


@dataclass(frozen=True)
class Reading:
    """The settings, the file that was read (None: there is none), and where each setting is from, by its name."""

    settings: ServerSettings
    file: Path | None
    sources: Mapping[str, Source]


def read_settings(
    environment: Mapping[str, str] | None = None, *, config: Path | None = None, **options: Any
) -> ServerSettings:
    """As `read`, the settings alone."""
    return read(environment, config=config, **options).settings


def read(environment: Mapping[str, str] | None = None, *, config: Path | None = None, **options: Any) -> Reading:
    """Settings from options, else from the environment, else from the file, else the defaults.

    `config` is the file; without it CLOISTER_CONFIG says which, else it is cloister.toml in the data directory if there
    is one. An option that is None counts as not given; an empty variable counts as not set. The data directory and the
    other paths become absolute. Raises `SettingsError`.
    """
    environment = os.environ if environment is None else environment
    named = config or environment.get(_FILE_VARIABLE, "").strip()
    file = Path(named).expanduser().absolute() if named else _file_of(environment, options.get("data"))
    written = {} if file is None else read_file(file)
    if "data" in written and not named:
        raise SettingsError(f"{file}: data: a file that is found in the data directory cannot name another one", "data")
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for setting in fields(ServerSettings):
        name = setting.name
        if options.get(name) is not None:
            values[name], sources[name] = options[name], "option"
        elif found := _from_environment(environment, name):
            values[name], sources[name] = _parse(*found, setting), "environment"
        elif name in written:
            values[name], sources[name] = written[name], "file"
        else:
            sources[name] = "default"
    for name in ("data", "dispatcher", "secrets_key_file", "jwt_key_file"):
        if name in values:
            values[name] = Path(values[name]).expanduser().absolute()
    values.setdefault("data", ServerSettings.data.absolute())
    try:
        return Reading(ServerSettings(**values), file, sources)
    except SettingsError as error:
        if sources.get(error.setting) == "file":
            raise SettingsError(f"{file}: {error}", error.setting) from None
        raise


def variable(name: str) -> str:
    """The environment variable that sets it."""
    return ENVIRONMENT_PREFIX + name.upper()


def _file_of(environment: Mapping[str, str], data: Path | None) -> Path | None:
    """The one in the data directory."""
    directory = data or environment.get(variable("data"), "").strip() or ServerSettings.data
    found = Path(directory).expanduser().absolute() / FILE_NAME
    # Not `Path.exists`, which fails where one may not look.
    return found if os.path.exists(found) else None


def _from_environment(environment: Mapping[str, str], name: str) -> tuple[str, str] | None:
    """The variable that sets it, and its text."""
    for found in (variable(name), *_STANDARD.get(name, ())):
        if text := environment.get(found, "").strip():
            return found, f"{text.rstrip('/')}/v1/traces" if found == _OTLP_BASE else text
    return None


def _parse(source: str, text: str, setting: Field[Any]) -> object:
    kind = kind_of(setting.type)
    try:
        return kind.from_text(text)
    except ValueError:
        raise SettingsError(f"{source}: must be {kind.text_rule}", setting.name) from None
