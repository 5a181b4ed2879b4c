"""`cloister versions` and `cloister rollback`: what was uploaded, what of it answers, and going back."""

from __future__ import annotations

from typing import Any

import click

from runtime.cli.client import AdminClient
from runtime.cli.errors import CommandError
from runtime.cli.options import connected, json_option, server_options
from runtime.cli.output import print_json
from runtime.cli.table import moment, print_table

_PAGE = 100


@click.command()
@click.argument("name")
@server_options
@json_option
def versions(name: str, as_json: bool, **where: Any) -> None:
    """List the versions of the tenant NAME, the newest first, and which of them answer."""
    client, namespace = connected(**where)
    shares = _shares(client, namespace, name)
    found = [{**each, "percentage": shares.get(each["id"], 0)} for each in _all(client, namespace, name)]
    if as_json:
        print_json(found)
    else:
        print_table(("VERSION", "ID", "ANSWERS", "CREATED", "BY", "HOW", "MESSAGE"), map(_row, found))


@click.command()
@click.argument("name")
@click.argument("version", required=False)
@click.option("--message", default="", help="Why; it is kept with the deployment.")
@server_options
@json_option
def rollback(name: str, version: str | None, message: str, as_json: bool, **where: Any) -> None:
    """Let an earlier VERSION of the tenant NAME answer: its number or its id.

    Without VERSION it is the one that answered before the present one.
    """
    client, namespace = connected(**where)
    wanted: dict[str, Any] = {"message": message}
    if version is not None:
        wanted["version_id"] = _resolve(_all(client, namespace, name), name, version)
    deployed = client.call_script("POST", namespace, name, "/rollback", content=wanted)
    if as_json:
        print_json(deployed)
    else:
        id = deployed["versions"][0]["version_id"]
        found = client.call_script("GET", namespace, name, f"/versions/{id}")
        click.echo(f"Version {found['number']} of {name} answers now.", err=True)


def _all(client: AdminClient, namespace: str, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    page = 1
    while True:
        path = f"/versions?page={page}&per_page={_PAGE}"
        items = client.call_script("GET", namespace, name, path)["items"]
        found += items
        if len(items) < _PAGE:
            return found
        page += 1


def _shares(client: AdminClient, namespace: str, name: str) -> dict[str, float]:
    """What percentage of the requests each version answers."""
    deployments = client.call_script("GET", namespace, name, "/deployments")["deployments"]
    return {share["version_id"]: share["percentage"] for share in deployments[0]["versions"]} if deployments else {}


def _resolve(found: list[dict[str, Any]], name: str, version: str) -> str:
    for each in found:
        if version in (str(each["number"]), each["id"]):
            return str(each["id"])
    raise CommandError(
        f"{name} has no version {version}.", "Old versions are not kept for ever.", f"cloister versions {name}"
    )


def _row(version: dict[str, Any]) -> tuple[str, ...]:
    metadata, annotations = version["metadata"], version["annotations"]
    return (
        str(version["number"]),
        version["id"],
        f"{version['percentage']:g} %" if version["percentage"] else "",
        moment(metadata["created_on"]),
        metadata["author_email"],
        metadata["source"],
        annotations.get("workers/message", ""),
    )
