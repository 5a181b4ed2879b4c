"""`cloister config`: the settings as the server would take them."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from typing import Any

import click

from runtime.cli.options import json_option
from runtime.cli.table import print_table
from runtime.settings import ENVIRONMENT_PREFIX, ServerSettings, read_settings

_SECRET = ("admin_token", "secrets_key")


@click.group()
def config() -> None:
    """Look at the server's settings."""


@config.command()
@json_option
def show(as_json: bool) -> None:
    """Check the settings in the environment and print them all, the secret ones hidden.

    What `cloister serve` is given as options comes before them. Exit code 2: a setting is not right.
    """
    settings = read_settings()
    shown = {setting.name: _shown(settings, setting.name) for setting in fields(ServerSettings)}
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    rows = ((_variable(name), _text(value), _source(name)) for name, value in shown.items())
    print_table(("SETTING", "VALUE", "FROM"), rows)


def _shown(settings: ServerSettings, name: str) -> Any:
    value = getattr(settings, name)
    if name in _SECRET and value is not None:
        return "(hidden)"
    if isinstance(value, tuple):
        return [str(each) for each in value]
    if isinstance(value, dict):
        return dict(value)
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, dict):
        return ",".join(f"{key}={each}" for key, each in value.items())
    return "" if value is None else str(value)


def _variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper()


def _source(name: str) -> str:
    return "environment" if os.environ.get(_variable(name), "").strip() else "default"
