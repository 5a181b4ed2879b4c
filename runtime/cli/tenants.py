"""`cloister tenants`: what is deployed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from runtime.cli.client import connect
from runtime.cli.options import server_options, server_settings


@click.command()
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def tenants(namespace: str | None, admin_port: int | None, data: Path | None, as_json: bool) -> None:
    """List the tenants of a dispatch namespace."""
    settings = server_settings(namespace, admin_port, data)
    scripts = connect(settings).scripts(settings.namespace)
    if as_json:
        click.echo(json.dumps(scripts, indent=2))
    elif scripts:
        _print_table(scripts)
    else:
        click.echo(f"Nothing is deployed in the namespace {settings.namespace}.", err=True)


def _print_table(scripts: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("NAME", "STATE", "VERSION", "DEPLOYED", "COMPONENT", "BINDINGS", box=None, pad_edge=False)
    for script in scripts:
        bindings = ", ".join(f"{binding['name']} ({binding['type']})" for binding in script["bindings"])
        deployed = script["modified_on"][:19].replace("T", " ") + "Z"
        state = "stopped" if script["stopped"] else "deployed"
        cells = (script["id"], state, str(script["version_number"]), deployed, script["etag"][:12], bindings)
        table.add_row(*[Text(cell) for cell in cells])
    # Piped somewhere, a line is as long as it has to be.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)
