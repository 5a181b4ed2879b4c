"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from runtime.cli.client import AdminClient, connect
from runtime.settings import ServerSettings, read_settings

_F = TypeVar("_F", bound=Callable[..., Any])


def server_options(function: _F) -> _F:
    """Where the server is, and in which namespace to work: `port`, `data`, `namespace` for `server_settings`."""
    for option in (
        click.option("--namespace", help="The dispatch namespace.  [default: production]"),
        click.option("--admin-port", type=click.IntRange(1, 65535), help="The management port.  [default: 8788]"),
        click.option(
            "--data",
            type=click.Path(file_okay=False, path_type=Path),
            help="The server's data directory, which holds the token.  [default: .cloister]",
        ),
    ):
        function = option(function)
    return function


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def server_settings(namespace: str | None, admin_port: int | None, data: Path | None) -> ServerSettings:
    return read_settings(namespace=namespace, admin_port=admin_port, data=data)


def connected(**where: Any) -> tuple[AdminClient, str]:
    """A client of the server, and the dispatch namespace to work in, from the values of `server_options`."""
    settings = server_settings(**where)
    return connect(settings), settings.namespace
