"""`cloister delete`: removes a tenant."""

from __future__ import annotations

import sys
from typing import Any

import click

from runtime.cli.client import connect
from runtime.cli.errors import CommandError
from runtime.cli.options import json_option, server_options, server_settings
from runtime.cli.output import say


@click.command()
@click.argument("name")
@server_options
@click.option("--purge-data", is_flag=True, help="Also delete for good what the tenant has stored.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def delete(name: str, purge_data: bool, yes: bool, as_json: bool, **where: Any) -> None:
    """Remove the tenant NAME. What it has stored stays, unless told otherwise."""
    settings = server_settings(**where)
    client = connect(settings)
    if purge_data and not yes and sys.stdin.isatty():
        click.confirm(f"Delete everything that {name} has stored?", abort=True, err=True)
    result = client.delete_script(settings.namespace, name, purge_data=purge_data)
    if not result["deleted"] and not result["data_purged"]:
        raise CommandError(f"There is no tenant {name} in the namespace {settings.namespace}.")
    stored = "what it has stored is deleted too" if purge_data else "what it has stored stays"
    say(as_json, result, f"{'Deleted' if result['deleted'] else 'Not deployed:'} {name}; {stored}.")
