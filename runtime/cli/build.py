"""`cloister build`: from a worker's directory to a component."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from runtime.cli.options import json_option
from runtime.cli.output import print_json
from runtime.cli.source import build_directory, describe, say_notes
from runtime.cli.terminal import step


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The component's file.  [default: NAME.wasm in the current directory]",
)
@json_option
def build(directory: Path, output: Path | None, as_json: bool) -> None:
    """Build the worker in DIR into a WebAssembly component. Prints the component's path."""
    with step(f"Building {directory}") as progress:
        built = build_directory(directory, output=output, progress=progress.at)
        target = built.deployment.component
        if output is None:
            target = Path(f"{built.deployment.name}.wasm")
            shutil.copyfile(built.deployment.component, target)
        progress.note = describe(built)
    say_notes(built)
    if as_json:
        print_json(
            {
                "name": built.deployment.name,
                "component": str(target),
                "bytes": target.stat().st_size,
                "cached": built.cached,
            }
        )
    else:
        click.echo(str(target))
