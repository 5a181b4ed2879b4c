"""`cloister dev`: a server for one worker that is built and deployed anew whenever its files change."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli.client import AdminClient
from runtime.cli.deployment import deploy_anew, deploy_if_changed
from runtime.cli.errors import CommandError, show
from runtime.cli.options import config_option
from runtime.cli.source import build_directory, configured_name, describe, say_notes
from runtime.cli.terminal import step
from runtime.settings import ServerSettings, read_settings

if TYPE_CHECKING:
    from runtime.listening import Listening

_DISPATCHER = """\
async def fetch(request, env):
    return await env.DISPATCHER.get({name!r}).fetch(request)
"""
"""Every request goes to the one worker, whoever it says that it is from."""

_SETTLE_MS = 20
"""How long no further file may change before what was saved is built."""


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR")
@click.option("--port", type=click.IntRange(0, 65535), help="The port.  [default: 8787]")
@click.option("--admin-port", type=click.IntRange(0, 65535), default=0, help="The management port.  [default: any]")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where what the worker stores is kept.  [default: a temporary directory]",
)
@config_option
def dev(directory: Path, config: Path | None, port: int | None, admin_port: int, data: Path | None) -> None:
    """Serve the worker in DIR with its bindings, and deploy it anew when a file is saved.

    While what is saved cannot be built, the last version that could goes on answering. With --data also code that is
    compiled is kept, so that the next start is quick.
    """
    name = configured_name(directory)
    from runtime.supervisor import supervisor

    with _workplace(data) as (store, work):
        dispatcher = work / "dispatcher.py"
        dispatcher.write_text(_DISPATCHER.format(name=name), encoding="utf-8")
        settings = read_settings(
            config=config,
            port=port,
            admin_port=admin_port,
            data=store,
            dispatcher=dispatcher,
            resolver="header",
            log_format=None if os.environ.get("CLOISTER_LOG_FORMAT") else "pretty",
        )

        async def ready(listening: Listening) -> None:
            await _serve(directory, name, settings, listening)

        supervisor.run(settings, ready=ready)


@contextmanager
def _workplace(data: Path | None) -> Iterator[tuple[Path, Path]]:
    """The data directory, and one for files of this run alone."""
    with tempfile.TemporaryDirectory(prefix="cloister-dev-") as made:
        yield data or Path(made) / "data", Path(made)


async def _serve(directory: Path, name: str, settings: ServerSettings, listening: Listening) -> None:
    """Deploys, and again after each change, until it is cancelled."""
    from watchfiles import awatch

    # It has a line for each change, as this command has.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    client = AdminClient(listening.admin_port, listening.admin_token)
    changes = awatch(*_watched(directory), step=_SETTLE_MS)
    # Watched before the first build reads the files: what is saved meanwhile is a change.
    change = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    try:
        await asyncio.to_thread(_deploy, directory, name, client, settings)
        address = f"http://{listening.host}:{listening.port}/"
        click.echo(f"{name} is ready: {address} (management on port {listening.admin_port}; Ctrl-C ends it)")
        while True:
            await change
            await asyncio.to_thread(_deploy, directory, name, client, settings)
            change = asyncio.ensure_future(anext(changes))
    finally:
        change.cancel()


def _watched(directory: Path) -> set[Path]:
    """The worker's folder, and that of its code if it is elsewhere."""
    from guest_sdk.build import ConfigurationError, read_configuration

    try:
        main = read_configuration(directory).main.resolve()
    except ConfigurationError:
        return {directory}
    return {directory} if main.is_relative_to(directory.resolve()) else {directory, main.parent}


def _deploy(directory: Path, name: str, client: AdminClient, settings: ServerSettings) -> None:
    """Says what is wrong if it cannot be done; then what is deployed stays."""
    try:
        with step(f"Building {directory}") as progress:
            built = build_directory(directory, name=name, progress=progress.at)
            progress.note = describe(built)
        say_notes(built)
        with step(f"Deploying {name}") as progress:
            # What has just been built is new: there is nothing to compare.
            deploy = deploy_if_changed if built.cached else deploy_anew
            result = deploy(client, settings, built.deployment)
            progress.note = f"version {result['version_number']}" if result else "nothing has changed"
    except CommandError as error:
        show(error)
