"""`cloister r2`: the objects of a tenant's bucket, through the management API."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from runtime.cli.options import json_option
from runtime.cli.output import print_json, say
from runtime.cli.stores import binding_arguments, download, given, output_option, pages, store
from runtime.cli.table import moment, print_table
from runtime.telemetry.text import harmless

_KIND = "r2_bucket"


@click.group()
def r2() -> None:
    """Read and write the R2 bucket behind a tenant's binding."""


@r2.command()
@binding_arguments
@click.argument("key")
@output_option
def get(key: str, output: Path | None, **where: Any) -> None:
    """Print the object KEY, as it is."""
    client, address = store(_KIND, **where)
    download(client, address, _object(key), output)


@r2.command()
@binding_arguments
@click.argument("key")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--content-type", help="The object's media type.  [default: from the file's name]")
@json_option
def put(key: str, file: Path | None, content_type: str | None, as_json: bool, **where: Any) -> None:
    """Store FILE, or what standard input holds, as the object KEY."""
    client, address = store(_KIND, **where)
    media = content_type or mimetypes.guess_type(file.name if file else key)[0] or "application/octet-stream"
    with given(file) as (body, length):
        result = client.call("PUT", _object(key), under=address, body=body, length=length, content_type=media)
    say(as_json, result, f"{harmless(key)} is stored.")


@r2.command("list")
@binding_arguments
@click.option("--prefix", default="", help="Only keys that begin so.")
@json_option
def list_objects(prefix: str, as_json: bool, **where: Any) -> None:
    """List the objects."""
    client, address = store(_KIND, **where)
    found = list(pages(client, address, f"/objects?{urlencode({'prefix': prefix})}"))
    if as_json:
        print_json(found)
        return
    rows = ((each["key"], str(each["size"]), moment(each["last_modified"])) for each in found)
    print_table(("KEY", "BYTES", "MODIFIED"), rows)


@r2.command()
@binding_arguments
@click.argument("key")
@json_option
def delete(key: str, as_json: bool, **where: Any) -> None:
    """Delete the object KEY."""
    client, address = store(_KIND, **where)
    client.call("DELETE", _object(key), under=address)
    say(as_json, {"key": key, "deleted": True}, f"{harmless(key)} is deleted.")


def _object(key: str) -> str:
    return f"/objects/{quote(key, safe='')}"
