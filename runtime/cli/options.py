"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from runtime.cli.client import AdminClient, connect
from runtime.settings import ServerSettings, read_settings

_F = TypeVar("_F", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The settings file.  [default: cloister.toml in the data directory, if there is one]",
)

data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="The server's data directory.  [default: .cloister]",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def server_options(function: _F) -> _F:
    """Where the server is, and in which namespace to work: what `server_settings` takes."""
    for option in (
        click.option("--namespace", help="The dispatch namespace.  [default: production]"),
        click.option("--admin-port", type=click.IntRange(1, 65535), help="The management port.  [default: 8788]"),
        data_option,
        config_option,
    ):
        function = option(function)
    return function


def server_settings(**where: Any) -> ServerSettings:
    """The settings, from the values of `server_options`."""
    return read_settings(**where)


def connected(**where: Any) -> tuple[AdminClient, str]:
    """A client of the server, and the dispatch namespace to work in, from the values of `server_options`."""
    settings = server_settings(**where)
    return connect(settings), settings.namespace
