"""`cloister deploy`: uploads a worker, from its directory or as a component."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from runtime.cli.client import connect
from runtime.cli.deployment import Deployment, deploy_if_changed
from runtime.cli.errors import CommandError, ExitCode
from runtime.cli.options import json_option, server_options, server_settings
from runtime.cli.output import print_json
from runtime.cli.source import build_directory, describe, say_notes
from runtime.cli.terminal import step

_RESOURCE_OPTIONS = {"kv": ("kv_namespace", "namespace_id"), "r2": ("r2_bucket", "bucket_name"), "d1": ("d1", "id")}


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path), metavar="DIR_OR_FILE")
@click.option("--name", help="The tenant's name.  [default: the name in the directory's configuration]")
@server_options
@click.option("--kv", multiple=True, metavar="NAME=ID", help="Bind a KV namespace. Can be repeated, like all of these.")
@click.option("--r2", multiple=True, metavar="NAME=BUCKET", help="Bind an R2 bucket.")
@click.option("--d1", multiple=True, metavar="NAME=ID", help="Bind a D1 database.")
@click.option("--var", multiple=True, metavar="NAME=TEXT", help="Bind a text.")
@click.option("--json-var", "json_vars", multiple=True, metavar="NAME=JSON", help="Bind a JSON value.")
@click.option(
    "--secret", "secrets", multiple=True, metavar="NAME", help="Bind the environment variable NAME as a secret."
)
@click.option("--limit", "limits", multiple=True, metavar="NAME=VALUE", help="Set a limit: cpu_ms=50.")
@click.option("--tag", "tags", multiple=True, metavar="TEXT", help="Add a tag.")
@json_option
def deploy(
    source: Path,
    name: str | None,
    kv: tuple[str, ...],
    r2: tuple[str, ...],
    d1: tuple[str, ...],
    var: tuple[str, ...],
    json_vars: tuple[str, ...],
    secrets: tuple[str, ...],
    limits: tuple[str, ...],
    tags: tuple[str, ...],
    as_json: bool,
    **where: Any,
) -> None:
    """Deploy a worker: the directory of one, which is built first, or a component (.wasm).

    What the options say comes before what the directory's configuration says.
    """
    settings = server_settings(**where)
    client = connect(settings)
    given = [
        *_resource_bindings(kv=kv, r2=r2, d1=d1),
        *[{"type": "plain_text", "name": key, "text": text} for key, text in map(_pair, var)],
        *[{"type": "json", "name": key, "json": _value(key, text)} for key, text in map(_pair, json_vars)],
        *map(_secret, secrets),
    ]
    deployment = _prepare(source, name)
    deployment = replace(
        deployment,
        bindings=_merged(deployment.bindings, given),
        limits=deployment.limits | {key: _limit(text) for key, text in map(_pair, limits)},
        tags=[*deployment.tags, *tags],
    )
    with step(f"Deploying {deployment.name} to {settings.namespace}") as progress:
        result = deploy_if_changed(client, settings, deployment)
        progress.note = f"version {result['version_number']}" if result else "nothing has changed"
    if as_json:
        script = result or client.script(settings.namespace, deployment.name)
        print_json({"changed": result is not None, "script": script})


def _prepare(source: Path, name: str | None) -> Deployment:
    if source.is_dir():
        with step(f"Building {source}") as progress:
            built = build_directory(source, name=name, progress=progress.at)
            progress.note = describe(built)
        say_notes(built)
        return built.deployment
    if name is None:
        raise CommandError(
            "A component needs a name to be deployed under.",
            solution=f"cloister deploy {source} --name NAME",
            exit_code=ExitCode.USAGE,
        )
    return Deployment(name, source)


def _resource_bindings(**options: tuple[str, ...]) -> list[dict[str, Any]]:
    bindings = []
    for option, pairs in options.items():
        kind, field = _RESOURCE_OPTIONS[option]
        bindings += [{"type": kind, "name": name, field: id} for name, id in map(_pair, pairs)]
    return bindings


def _merged(configured: list[dict[str, Any]], given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = {binding["name"] for binding in given}
    return [*[binding for binding in configured if binding["name"] not in names], *given]


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.UsageError(f"{text!r} is not of the form NAME=VALUE.")
    return name, value


def _value(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise click.UsageError(f"--json-var {name}: the value is not JSON.") from None


def _limit(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


def _secret(name: str) -> dict[str, Any]:
    # Not on the command line: anyone on the machine can see that.
    if name not in os.environ:
        raise click.UsageError(f"--secret {name}: there is no environment variable of this name.")
    return {"type": "secret_text", "name": name, "text": os.environ[name]}
