"""The settings file: TOML, with the settings under their own names."""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from runtime.settings.model import SECRET_SETTINGS, ServerSettings, SettingsError
from runtime.settings.values import kind_of

FILE_NAME = "cloister.toml"
"""What it is called in the data directory, where it is found without being named."""


def read_file(path: Path) -> dict[str, Any]:
    """The settings in the file, as the model takes them; relative paths are relative to its folder.

    Raises `SettingsError`, which names the file and the setting: for a file that cannot be read, is no TOML, has a name
    that is none or a value of another type, or has a secret and can be read by others.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            written = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"config: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError; neither quotes the file
        raise SettingsError(f"config: {path} is not TOML: {_where(error)}") from None
    kinds = {setting.name: kind_of(setting.type) for setting in fields(ServerSettings)}
    found: dict[str, Any] = {}
    for name, value in written.items():
        if name not in kinds:
            raise SettingsError(f"{path}: {name}: there is no such setting; {_suggestion(name, list(kinds))}", name)
        if name in SECRET_SETTINGS and mode & 0o077:
            raise SettingsError(
                f"{path}: {name}: is a secret, and others can read this file ({mode:04o}): chmod 600 {path}", name
            )
        try:
            found[name] = kinds[name].from_toml(value, path.parent)
        except ValueError:
            raise SettingsError(f"{path}: {name}: must be {kinds[name].toml_rule}", name) from None
    return found


def _where(error: ValueError) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
