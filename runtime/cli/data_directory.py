"""The data directory itself, for the commands that work on it without asking the server."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.cli.errors import CommandError, ExitCode
from runtime.settings import ServerSettings, read_settings


def owned_data_directory(config: Path | None, data: Path | None) -> ServerSettings:
    """The settings, if their data directory is one and this user's own. Raises `CommandError`."""
    settings = read_settings(config=config, data=data)
    if not settings.registry_path.exists():
        raise CommandError(
            f"{settings.data} is not a data directory.",
            f"There is no {settings.registry_path.name} in it.",
            "Name the server's data directory with --data or CLOISTER_DATA.",
            ExitCode.USAGE,
        )
    owner = settings.data.stat().st_uid
    if owner != os.geteuid():
        # Files that this makes, of locks and logs, would be closed to the server.
        raise CommandError(f"{settings.data} belongs to user {owner}.", solution="Run this as the server's user.")
    return settings
