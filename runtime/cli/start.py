"""`cloister start`: lets a tenant run again that was stopped since it crashed the server."""

from __future__ import annotations

from typing import Any

import click

from runtime.cli.client import connect
from runtime.cli.options import json_option, server_options, server_settings
from runtime.cli.output import say


@click.command()
@click.argument("name")
@server_options
@json_option
def start(name: str, as_json: bool, **where: Any) -> None:
    """Let the tenant NAME run again, which was stopped since it crashed the server again and again."""
    settings = server_settings(**where)
    client = connect(settings)
    found = client.script(settings.namespace, name)
    client.start_script(settings.namespace, name)
    was_stopped = found is not None and bool(found["stopped"])
    words = f"{name} may run again." if was_stopped else f"{name} was not stopped."
    say(as_json, {"name": name, "was_stopped": was_stopped}, words)
