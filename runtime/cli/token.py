"""`cloister token`: tokens of the management API, for people and machines that should not have the admin token."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from runtime.cli.options import connected, json_option, server_options
from runtime.cli.output import print_json, say
from runtime.cli.table import print_table

PERMISSIONS = ("read", "deploy", "data", "call")


@click.group()
def token() -> None:
    """Create, list, change and revoke tokens of the management API (with the admin token)."""


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
@json_option
def create(
    name: str, permissions: tuple[str, ...], tenant: str | None, days: int | None, as_json: bool, **where: Any
) -> None:
    """Create a token. Its value is shown this once."""
    body: dict[str, Any] = {"name": name, "permissions": list(permissions)}
    if tenant is not None:
        body["tenant"] = tenant
    if days is not None:
        body["expires_on"] = _in_days(days)
    created = connected(**where)[0].create_token(body)
    if as_json:
        print_json(created)
        return
    click.echo(created["value"])
    click.echo(f"This is shown once. To end it: cloister token revoke {created['id']}", err=True)


@token.command(name="list")
@server_options
@json_option
def list_tokens(as_json: bool, **where: Any) -> None:
    """List the tokens that there are, without their values."""
    found = connected(**where)[0].tokens()
    if as_json:
        print_json(found)
    elif found:
        _print_table(found)
    else:
        click.echo("There are no tokens but the admin token.", err=True)


@token.command()
@click.argument("id")
@click.option("--name", help="Another name.")
@click.option("--allow", "permissions", type=click.Choice(PERMISSIONS), multiple=True, help="What it may do now.")
@click.option("--days", type=click.IntRange(1, 36_500), help="For how many days from now it is good.")
@click.option("--enable/--disable", default=None, help="Switch it on or off.")
@server_options
@json_option
def update(
    id: str,
    name: str | None,
    permissions: tuple[str, ...],
    days: int | None,
    enable: bool | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Change a token, at once; its value stays, and so does what is not said."""
    client = connected(**where)[0]
    found = client.token(id)
    kept = ("name", "permissions", "tenant", "not_before", "expires_on")
    body = {key: found[key] for key in kept if key in found}
    if enable is None and _is_early(found):
        # It shows as disabled in any case.
        raise click.UsageError("The token's first day has not come: say --enable or --disable as well.")
    body["status"] = "disabled" if found["status"] == "disabled" else "active"
    if name is not None:
        body["name"] = name
    if permissions:
        body["permissions"] = list(permissions)
    if days is not None:
        body["expires_on"] = _in_days(days)
    if enable is not None:
        body["status"] = "active" if enable else "disabled"
    say(as_json, client.update_token(id, body), f"Changed {id}.")


@token.command()
@click.argument("id")
@server_options
@json_option
def revoke(id: str, as_json: bool, **where: Any) -> None:
    """Revoke a token, which ends at once."""
    connected(**where)[0].delete_token(id)
    say(as_json, {"id": id, "revoked": True}, f"Revoked {id}.")


def _in_days(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def _is_early(token: dict[str, Any]) -> bool:
    """Whether its first day has not come."""
    return "not_before" in token and datetime.fromisoformat(token["not_before"]) > datetime.now(UTC)


def _print_table(tokens: list[dict[str, Any]]) -> None:
    cells: list[Callable[[dict[str, Any]], str]] = [
        lambda each: each["id"],
        lambda each: each["name"],
        lambda each: each.get("tenant", "all tenants"),
        lambda each: ", ".join(each["permissions"]),
        lambda each: each["status"],
        lambda each: each.get("expires_on", "for ever")[:10],
    ]
    print_table(("ID", "NAME", "FOR", "MAY", "STATUS", "UNTIL"), ([cell(each) for cell in cells] for each in tokens))
