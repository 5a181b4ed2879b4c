"""`cloister token`: tokens of the management API, for people and machines that should not have the admin token."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from runtime.cli.client import AdminClient, connect
from runtime.cli.options import server_options, server_settings

PERMISSIONS = ("read", "deploy", "data")


@click.group()
def token() -> None:
    """Create, list and revoke tokens of the management API (with the admin token)."""


@token.command()
@click.argument("name")
@click.option(
    "--allow",
    "permissions",
    type=click.Choice(PERMISSIONS),
    multiple=True,
    default=["read"],
    show_default=True,
    help="What it may do; can be repeated.",
)
@click.option("--tenant", metavar="NAMESPACE/SCRIPT", help="The only tenant that it is for.  [default: all]")
@click.option("--days", type=click.IntRange(1, 36_500), help="For how many days it is good.  [default: for ever]")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def create(
    name: str, permissions: tuple[str, ...], tenant: str | None, days: int | None, as_json: bool, **where: Any
) -> None:
    """Create a token. Its value is shown this once."""
    body: dict[str, Any] = {"name": name, "permissions": list(permissions)}
    if tenant is not None:
        body["tenant"] = tenant
    if days is not None:
        body["expires_on"] = (datetime.now(UTC) + timedelta(days=days)).isoformat()
    created = _client(**where).create_token(body)
    if as_json:
        click.echo(json.dumps(created, indent=2))
        return
    click.echo(created["value"])
    click.echo(f"This is shown once. To end it: cloister token revoke {created['id']}", err=True)


@token.command(name="list")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def list_tokens(as_json: bool, **where: Any) -> None:
    """List the tokens that there are, without their values."""
    found = _client(**where).tokens()
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        _print_table(found)
    else:
        click.echo("There are no tokens but the admin token.", err=True)


@token.command()
@click.argument("id")
@server_options
def revoke(id: str, **where: Any) -> None:
    """Revoke a token, which ends at once."""
    _client(**where).delete_token(id)
    click.echo(f"Revoked {id}.", err=True)


def _client(namespace: str | None, admin_port: int | None, data: Path | None) -> AdminClient:
    return connect(server_settings(namespace, admin_port, data))


def _print_table(tokens: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("ID", "NAME", "FOR", "MAY", "STATUS", "UNTIL", box=None, pad_edge=False)
    shown: list[Callable[[dict[str, Any]], str]] = [
        lambda each: each["id"],
        lambda each: each["name"],
        lambda each: each.get("tenant", "all tenants"),
        lambda each: ", ".join(each["permissions"]),
        lambda each: each["status"],
        lambda each: each.get("expires_on", "for ever")[:10],
    ]
    for each in tokens:
        table.add_row(*[Text(cell(each)) for cell in shown])
    # Piped somewhere, a line is as long as it has to be.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)
