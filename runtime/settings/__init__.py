"""The server's settings: one validated model, read from a file, the environment and command line options.

Every room of the runtime may import this package; it imports none of them.
"""

from runtime.settings.file import FILE_NAME
from runtime.settings.model import (
    DASHBOARD_COOKIE,
    MIB,
    NAME_PATTERN,
    NAME_RULE,
    PROCESSES_MAX,
    SECRET_SETTINGS,
    ConfinementMode,
    JwtAlgorithm,
    LogFormat,
    LogLevel,
    ResolverKind,
    ServerSettings,
    SettingsError,
    prepare_data_directory,
)
from runtime.settings.sources import ENVIRONMENT_PREFIX, Reading, Source, read, read_settings

__all__ = [
    "DASHBOARD_COOKIE",
    "ENVIRONMENT_PREFIX",
    "FILE_NAME",
    "MIB",
    "NAME_PATTERN",
    "NAME_RULE",
    "PROCESSES_MAX",
    "SECRET_SETTINGS",
    "ConfinementMode",
    "JwtAlgorithm",
    "LogFormat",
    "LogLevel",
    "Reading",
    "ResolverKind",
    "ServerSettings",
    "SettingsError",
    "Source",
    "prepare_data_directory",
    "read",
    "read_settings",
]
