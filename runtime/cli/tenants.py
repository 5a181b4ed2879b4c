"""`cloister tenants`: what is deployed."""

from __future__ import annotations

from typing import Any

import click

from runtime.cli.options import connected, json_option, server_options
from runtime.cli.output import print_json
from runtime.cli.table import moment, print_table


@click.command()
@server_options
@json_option
def tenants(as_json: bool, **where: Any) -> None:
    """List the tenants of a dispatch namespace."""
    client, namespace = connected(**where)
    scripts = client.scripts(namespace)
    if as_json:
        print_json(scripts)
    elif scripts:
        print_table(("NAME", "STATE", "VERSION", "DEPLOYED", "COMPONENT", "BINDINGS"), map(_row, scripts))
    else:
        click.echo(f"Nothing is deployed in the namespace {namespace}.", err=True)


def _row(script: dict[str, Any]) -> tuple[str, ...]:
    bindings = ", ".join(f"{binding['name']} ({binding['type']})" for binding in script["bindings"])
    state = "stopped" if script["stopped"] else "deployed"
    version = str(script["version_number"])
    return script["id"], state, version, moment(script["modified_on"]), script["etag"][:12], bindings
