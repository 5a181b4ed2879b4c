"""`cloister init`: a new worker's folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from runtime.cli.errors import CommandError, ExitCode
from runtime.cli.options import json_option
from runtime.cli.output import print_json
from runtime.settings import NAME_PATTERN, NAME_RULE

_CONFIGURATION = """\
{{
  "name": {name},
  "main": "src/entry.py",
  // Values of your own: self.env.GREETING
  "vars": {{ "GREETING": "Hello" }},
  // A store of keys and values: self.env.VISITS. It is there as soon as it is used.
  "kv_namespaces": [{{ "binding": "VISITS", "id": "visits" }}]
}}
"""

_ENTRY = """\
from urllib.parse import urlsplit

from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = urlsplit(request.url).path
        count = int(await self.env.VISITS.get(path) or 0) + 1
        await self.env.VISITS.put(path, str(count))
        return Response.json({"greeting": self.env.GREETING, "path": path, "visits": count})
"""


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option("--name", help="The worker's name.  [default: from the folder's]")
@json_option
def init(directory: Path, name: str | None, as_json: bool) -> None:
    """Make a worker's folder DIR: a configuration, and code that counts visits in a KV namespace."""
    if name is None:
        name = re.sub(r"[^a-z0-9]+", "-", directory.absolute().name.lower()).strip("-")[:63].rstrip("-")
    if not NAME_PATTERN.fullmatch(name):
        raise click.UsageError(f"The name {name!r} cannot be: {NAME_RULE}. Give another with --name.")
    if directory.exists() and any(directory.iterdir()):
        raise CommandError(f"{directory} is not empty.", solution="Name a new folder.", exit_code=ExitCode.USAGE)
    try:
        (directory / "src").mkdir(parents=True)
        (directory / "wrangler.jsonc").write_text(_CONFIGURATION.format(name=json.dumps(name)), encoding="utf-8")
        (directory / "src/entry.py").write_text(_ENTRY, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{directory} could not be made.", str(error)) from error
    if as_json:
        print_json({"name": name, "directory": str(directory)})
        return
    click.echo(str(directory))
    click.echo(f"Made the worker {name}. Now:\n  cloister dev {directory}", err=True)
