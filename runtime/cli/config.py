"""`cloister config`: the settings as the server would take them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from runtime.cli.options import config_option, data_option, json_option
from runtime.cli.output import print_json
from runtime.cli.table import print_table
from runtime.settings import SECRET_SETTINGS, Reading, ServerSettings, Source, read


@click.group()
def config() -> None:
    """Look at the server's settings."""


@config.command()
@config_option
@data_option
@json_option
def show(config: Path | None, data: Path | None, as_json: bool) -> None:
    """Check the settings in the file and the environment and print them all, the secret ones hidden.

    What `cloister serve` is given as options comes before them. Exit code 2: a setting is not right.
    """
    reading = read(config=config, data=data)
    shown = {setting.name: _shown(reading.settings, setting.name) for setting in fields(ServerSettings)}
    if as_json:
        settings = {name: {"value": value, "source": reading.sources[name]} for name, value in shown.items()}
        file = None if reading.file is None else str(reading.file)
        print_json({"file": file, "settings": settings})
        return
    rows = ((name, _text(value), _from(reading, reading.sources[name])) for name, value in shown.items())
    print_table(("SETTING", "VALUE", "FROM"), rows)


def _shown(settings: ServerSettings, name: str) -> Any:
    value = getattr(settings, name)
    if name in SECRET_SETTINGS and value is not None:
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


def _from(reading: Reading, source: Source) -> str:
    return str(reading.file) if source == "file" else source
