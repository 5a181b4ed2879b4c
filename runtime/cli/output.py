"""What a command answers: JSON on standard output for scripts, or words for people."""

from __future__ import annotations

import json

import click


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def say(as_json: bool, value: object, words: str) -> None:
    """That something is done: as JSON on standard output, or in words on standard error."""
    if as_json:
        print_json(value)
    else:
        click.echo(words, err=True)
