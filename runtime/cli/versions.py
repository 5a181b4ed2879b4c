"""`cloister versions` and `cloister rollback`: what was uploaded, what of it answers, a split, and going back."""

from __future__ import annotations

from typing import Any

import click

from runtime.cli.client import AdminClient
from runtime.cli.errors import CommandError
from runtime.cli.options import connected, json_option, server_options
from runtime.cli.output import print_json, say
from runtime.cli.table import moment, print_table

_PAGE = 100


class _ListsByDefault(click.Group):
    """`versions NAME` is short for `versions list NAME`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ListsByDefault)
def versions() -> None:
    """List the versions of a tenant (`cloister versions NAME`), and choose which of them answer."""


@versions.command("list")
@click.argument("name")
@server_options
@json_option
def list_versions(name: str, as_json: bool, **where: Any) -> None:
    """List the versions of the tenant NAME, the newest first, and which of them answer."""
    client, namespace = connected(**where)
    shares = _shares(client, namespace, name)
    found = [{**each, "percentage": shares.get(each["id"], 0)} for each in _all(client, namespace, name)]
    if as_json:
        print_json(found)
    else:
        print_table(("VERSION", "ID", "ANSWERS", "CREATED", "BY", "HOW", "MESSAGE"), map(_row, found))


@versions.command()
@click.argument("name")
@click.argument("shares", nargs=-1, required=True, metavar="VERSION[@PERCENTAGE]...")
@click.option("--message", default="", help="Why; it is kept with the deployment.")
@server_options
@json_option
def deploy(name: str, shares: tuple[str, ...], message: str, as_json: bool, **where: Any) -> None:
    """Let versions of the tenant NAME answer, each a part of the requests: `deploy NAME 3@90 4@10`.

    A version is meant by its number or its id. One without a percentage gets what the others leave; several share it.
    """
    client, namespace = connected(**where)
    found = _all(client, namespace, name)
    wanted = [{"version_id": _resolve(found, name, v), "percentage": share} for v, share in _shares_of(shares)]
    content = {"strategy": "percentage", "versions": wanted, "annotations": {"workers/message": message}}
    deployed = client.call_script("POST", namespace, name, "/deployments", content=content)
    numbers = {each["id"]: each["number"] for each in found}
    parts = [f"{numbers[each['version_id']]} ({each['percentage']:g} %)" for each in deployed["versions"]]
    say(as_json, deployed, f"{name} is answered by version {', '.join(parts)} now.")


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


def _shares_of(texts: tuple[str, ...]) -> list[tuple[str, float]]:
    """Versions and percentages, which add up to 100. Raises `click.UsageError`."""
    given: list[tuple[str, float | None]] = []
    for text in texts:
        version, at, percentage = text.partition("@")
        try:
            given.append((version, float(percentage) if at else None))
        except ValueError:
            raise click.UsageError(f"{text!r} is not of the form VERSION@PERCENTAGE.") from None
    left = 100 - sum(share for _, share in given if share is not None)
    open_ones = sum(share is None for _, share in given)
    if any(share is not None and not 0 < share <= 100 for _, share in given) or (left <= 0 if open_ones else left):
        raise click.UsageError("The percentages must be above 0 and add up to 100.")
    return [(version, left / open_ones if share is None else share) for version, share in given]


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
