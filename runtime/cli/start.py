"""`cloister start`: lets a tenant run again that was stopped since it crashed the server."""

from __future__ import annotations

from typing import Any

import click

from runtime.cli.client import connect
from runtime.cli.options import server_options, server_settings


@click.command()
@click.argument("name")
@server_options
def start(name: str, **where: Any) -> None:
    """Let the tenant NAME run again, which was stopped since it crashed the server again and again."""
    settings = server_settings(**where)
    client = connect(settings)
    found = client.script(settings.namespace, name)
    client.start_script(settings.namespace, name)
    was_stopped = found is not None and found["stopped"]
    click.echo(f"{name} may run again." if was_stopped else f"{name} was not stopped.", err=True)
