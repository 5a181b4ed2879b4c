"""`cloister usage`: what tenants have used, by day."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import click

from runtime.cli.options import connected, json_option, server_options
from runtime.cli.output import print_json
from runtime.cli.table import print_table

_DAY = click.DateTime(["%Y-%m-%d"])
_FIGURES = ("requests", "calls", "errors", "cpu_ms", "host_calls", "bytes_in", "bytes_out", "storage_bytes")


@click.command()
@click.argument("name", required=False)
@click.option("--since", type=_DAY, metavar="YYYY-MM-DD", help="The first day, in UTC.  [default: 29 days before]")
@click.option("--until", type=_DAY, metavar="YYYY-MM-DD", help="The last day, in UTC.  [default: today]")
@server_options
@json_option
def usage(name: str | None, since: datetime | None, until: datetime | None, as_json: bool, **where: Any) -> None:
    """Print what the tenants of a dispatch namespace, or the tenant NAME, have used, by day (UTC)."""
    client, namespace = connected(**where)
    query = {"namespace": namespace}
    if name is not None:
        query["script"] = name
    query |= {key: day.date().isoformat() for key, day in (("since", since), ("until", until)) if day is not None}
    found = client.call("GET", f"?{urlencode(query)}", under="usage")
    if as_json:
        print_json(found)
    elif found:
        headings = ("DAY", "NAME", *(figure.upper() for figure in _FIGURES))
        rows = ([each["day"], each["script"], *(f"{each[figure]:.15g}" for figure in _FIGURES)] for each in found)
        print_table(headings, rows)
    else:
        click.echo("Nothing has been used in these days.", err=True)
