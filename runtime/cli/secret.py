"""`cloister secret`: a tenant's secrets. Values come from standard input or a prompt, and are never shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from runtime.cli.data_directory import owned_data_directory
from runtime.cli.errors import CommandError, ExitCode
from runtime.cli.options import config_option, connected, data_option, json_option, server_options
from runtime.cli.output import print_json, say


@click.group()
def secret() -> None:
    """Set, list and delete a tenant's secrets. Each change deploys a new version."""


@secret.command()
@click.argument("name")
@click.argument("key")
@server_options
@json_option
def put(name: str, key: str, as_json: bool, **where: Any) -> None:
    """Set the secret KEY of the tenant NAME: what standard input holds, or what is typed at the prompt.

    One line end at the end of standard input is not part of the value.
    """
    client, namespace = connected(**where)
    content = {"name": key, "text": _value(), "type": _TYPE}
    result = client.call_script("PUT", namespace, name, "/secrets", content=content)
    say(as_json, result, f"{key} of {name} is set.")


@secret.command("list")
@click.argument("name")
@server_options
@json_option
def list_secrets(name: str, as_json: bool, **where: Any) -> None:
    """List the names of the secrets of the tenant NAME."""
    client, namespace = connected(**where)
    found = client.call_script("GET", namespace, name, "/secrets")
    if as_json:
        print_json(found)
    else:
        click.echo("".join(f"{each['name']}\n" for each in found), nl=False)


@secret.command()
@click.argument("name")
@click.argument("key")
@server_options
@json_option
def delete(name: str, key: str, as_json: bool, **where: Any) -> None:
    """Delete the secret KEY of the tenant NAME."""
    client, namespace = connected(**where)
    client.call_script("DELETE", namespace, name, f"/secrets/{quote(key, safe='')}")
    say(as_json, {"name": key, "deleted": True}, f"{key} of {name} is deleted.")


@secret.command("rotate-key")
@config_option
@data_option
@json_option
def rotate_key(config: Path | None, data: Path | None, as_json: bool) -> None:
    """Seal every tenant's secrets anew under another key, on the server's machine, while the server runs or not.

    The new key takes the old one's place in its file. Cut off in the middle nothing is lost: do it again.
    """
    from runtime.registry import RegistryError, rotate_key

    settings = owned_data_directory(config, data)
    try:
        count = rotate_key(settings)
    except RegistryError as error:
        raise CommandError(
            "Replacing the key was not finished.", str(error), "Do it again; nothing is lost."
        ) from error
    say(as_json, {"secrets": count}, f"{count} secrets are sealed with a new key. Backups have the old one.")


_TYPE = "secret_text"


def _value() -> str:
    # Not an argument: anyone on the machine can see those, and shells keep them.
    if sys.stdin.isatty():
        return str(click.prompt("Value", hide_input=True, err=True))
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise CommandError("A secret is text, in UTF-8.", exit_code=ExitCode.USAGE) from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise CommandError(
            "Standard input holds no value.",
            solution="printf %s VALUE | cloister secret put …",
            exit_code=ExitCode.USAGE,
        )
    return text
