"""`cloister kv`: the keys of a tenant's KV namespace, through the management API."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from runtime.cli.options import json_option
from runtime.cli.output import print_json, say
from runtime.cli.stores import binding_arguments, download, given, output_option, pages, store
from runtime.telemetry.text import harmless

_KIND = "kv_namespace"


@click.group()
def kv() -> None:
    """Read and write the KV namespace behind a tenant's binding."""


@kv.command()
@binding_arguments
@click.argument("key")
@output_option
def get(key: str, output: Path | None, **where: Any) -> None:
    """Print the value of KEY, as it is."""
    client, address = store(_KIND, **where)
    download(client, address, _value(key), output)


@kv.command()
@binding_arguments
@click.argument("key")
@click.argument("value", required=False)
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file with the value.")
@click.option("--ttl", type=click.IntRange(60), metavar="SECONDS", help="When it expires.  [default: never]")
@json_option
def put(key: str, value: str | None, file: Path | None, ttl: int | None, as_json: bool, **where: Any) -> None:
    """Set KEY to VALUE, to what --file holds, or to what standard input holds."""
    if value is not None and file is not None:
        raise click.UsageError("Give either VALUE or --file.")
    client, address = store(_KIND, **where)
    path = _value(key) + (f"?{urlencode({'expiration_ttl': ttl})}" if ttl else "")
    if value is not None:
        encoded = value.encode("utf-8", "surrogateescape")
        length = len(encoded)
        client.call("PUT", path, under=address, body=encoded)
    else:
        with given(file) as (body, length):
            client.call("PUT", path, under=address, body=body, length=length)
    say(as_json, {"key": key, "bytes": length}, f"{harmless(key)} is set.")


@kv.command("list")
@binding_arguments
@click.option("--prefix", default="", help="Only keys that begin so.")
@json_option
def list_keys(prefix: str, as_json: bool, **where: Any) -> None:
    """List the keys, a line each; with --json also when they expire, and their metadata."""
    client, address = store(_KIND, **where)
    found = pages(client, address, f"/keys?{urlencode({'prefix': prefix})}")
    if as_json:
        print_json(list(found))
        return
    for each in found:
        click.echo(harmless(each["name"]))


@kv.command()
@binding_arguments
@click.argument("key")
@json_option
def delete(key: str, as_json: bool, **where: Any) -> None:
    """Delete KEY."""
    client, address = store(_KIND, **where)
    client.call("DELETE", _value(key), under=address)
    say(as_json, {"key": key, "deleted": True}, f"{harmless(key)} is deleted.")


def _value(key: str) -> str:
    return f"/values/{quote(key, safe='')}"
