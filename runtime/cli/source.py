"""From a worker's directory to something that can be deployed: its build, and what its configuration says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from runtime.cli.deployment import Deployment
from runtime.cli.errors import CommandError, ExitCode


@dataclass(frozen=True)
class BuiltWorker:
    deployment: Deployment
    cached: bool
    """Whether an earlier build of the very same sources was used."""
    notes: tuple[str, ...]
    """What in the configuration was ignored, a sentence each."""


def configured_name(directory: Path) -> str:
    """The name in a worker's configuration. Raises `CommandError`."""
    from guest_sdk.build import ConfigurationError, read_configuration

    try:
        return read_configuration(directory).name
    except ConfigurationError as error:
        raise _wrong_configuration(directory, error) from None


def build_directory(
    directory: Path, *, name: str | None = None, output: Path | None = None, progress: Callable[[str], None]
) -> BuiltWorker:
    """Builds a worker, unless it has been built before. `name` replaces the configured one.

    `progress` is told what is going on, a phrase at a time. Raises `CommandError`.
    """
    from guest_sdk.build import BuildError, ConfigurationError, build, read_configuration
    from host_bindings import WIT_DIRECTORY

    told: list[str] = []

    def tell(phrase: str) -> None:
        told.append(phrase)
        progress(phrase)

    try:
        configuration = read_configuration(directory)
        component = build(directory, wit_directory=WIT_DIRECTORY, output=output, progress=tell)
    except ConfigurationError as error:
        raise _wrong_configuration(directory, error) from None
    except BuildError as error:
        details = f"{error}\n{error.details}" if error.details else str(error)
        raise CommandError(f"The worker in {directory} could not be built.", details) from None
    deployment = Deployment(
        name=name or configuration.name,
        component=component,
        bindings=list(configuration.bindings),
        limits=dict(configuration.limits),
        tags=list(configuration.tags),
    )
    return BuiltWorker(deployment, not told, configuration.notes)


def _wrong_configuration(directory: Path, error: Exception) -> CommandError:
    headline = f"The configuration of the worker in {directory} is not right."
    return CommandError(headline, str(error), exit_code=ExitCode.USAGE)


def describe(built: BuiltWorker) -> str:
    """A build in a few words."""
    return "nothing has changed" if built.cached else f"{built.deployment.component.stat().st_size / 1e6:.1f} MB"


def say_notes(built: BuiltWorker) -> None:
    for note in built.notes:
        click.echo(f"{built.deployment.name}: {note}", err=True)
