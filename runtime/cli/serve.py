"""`cloister serve`: the server, and the workers that are deployed to it when it starts."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli.client import AdminClient
from runtime.cli.deployment import deploy_if_changed
from runtime.cli.errors import CommandError, ExitCode
from runtime.cli.options import config_option
from runtime.cli.source import build_directory, configured_name, describe, say_notes
from runtime.cli.terminal import step
from runtime.settings import PROCESSES_MAX, ServerSettings, read_settings

if TYPE_CHECKING:
    from runtime.listening import Listening


@click.command()
@click.option("--host", help="The address for tenants' traffic.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="The port for tenants' traffic.  [default: 8787]")
@click.option("--admin-port", type=click.IntRange(0, 65535), help="The management port.  [default: 8788]")
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Where everything is kept.  [default: .cloister]"
)
@click.option(
    "--dispatcher",
    type=click.Path(exists=True, path_type=Path),
    help="Your dispatch code, a folder or a file. Without it requests go to the tenant's fetch.",
)
@click.option("--namespace", help="The dispatch namespace to serve.  [default: production]")
@config_option
@click.option("--processes", type=click.IntRange(1, PROCESSES_MAX), help="Server processes.  [default: 1]")
@click.option("--trust-header", is_flag=True, default=None, help="Trust X-User-ID although strangers can connect.")
@click.option(
    "--deploy",
    "directories",
    multiple=True,
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Build this worker and deploy it, if it has changed. Can be repeated.",
)
def serve(
    host: str | None,
    port: int | None,
    admin_port: int | None,
    data: Path | None,
    dispatcher: Path | None,
    namespace: str | None,
    config: Path | None,
    processes: int | None,
    trust_header: bool | None,
    directories: tuple[Path, ...],
) -> None:
    """Serve the tenants' workers, and the management API on its own port.

    Each option can be set by an environment variable as well (CLOISTER_PORT, CLOISTER_DATA and so on), or in the
    settings file, where it comes after both. Ctrl-C or SIGTERM ends the server when the requests under way are done; a
    second one ends it at once.
    """
    started = time.monotonic()
    settings = read_settings(
        config=config,
        host=host,
        port=port,
        admin_port=admin_port,
        data=data,
        dispatcher=dispatcher,
        namespace=namespace,
        processes=processes,
        trust_header=trust_header,
    )
    from runtime.supervisor import supervisor

    async def ready(listening: Listening) -> None:
        names = await asyncio.to_thread(_deploy_all, listening, settings, directories)
        _announce(listening, settings, names, time.monotonic() - started)

    supervisor.run(settings, ready=ready)


def _deploy_all(listening: Listening, settings: ServerSettings, directories: tuple[Path, ...]) -> list[str]:
    """Builds and deploys what has changed. The names of all tenants that were asked for."""
    client = AdminClient(listening.admin_port, listening.admin_token)
    names = _distinct_names(directories)
    for directory, name in zip(directories, names, strict=True):
        with step(f"Building {directory}") as progress:
            built = build_directory(directory, progress=progress.at)
            progress.note = describe(built)
        say_notes(built)
        with step(f"Deploying {name}") as progress:
            result = deploy_if_changed(client, settings, built.deployment)
            progress.note = f"version {result['version_number']}" if result else "nothing has changed"
    return names


def _distinct_names(directories: tuple[Path, ...]) -> list[str]:
    names: list[str] = []
    for directory in directories:
        name = configured_name(directory)
        if name in names:
            raise CommandError(f"Two of the workers to deploy have the name {name}.", exit_code=ExitCode.USAGE)
        names.append(name)
    return names


def _announce(listening: Listening, settings: ServerSettings, names: list[str], elapsed_s: float) -> None:
    """One piece of text, so that whoever waits for the word `ready` has all of it."""
    host = f"[{listening.host}]" if ":" in listening.host else listening.host
    address, admin = f"http://{host}:{listening.port}", f"http://{listening.admin_host}:{listening.admin_port}"
    lines = ["", "Try:"]
    lines += [f"  {command}" for command in _commands(address, admin, settings, names)]
    lines += ["", f"Cloister is ready after {elapsed_s:.1f} s: tenants on {address}, management on {admin}"]
    click.echo("\n".join(lines))


def _commands(address: str, admin: str, settings: ServerSettings, names: list[str]) -> list[str]:
    if names and settings.dispatcher is not None:
        user = f"-H 'X-User-ID: {names[0]}'"
        value = """-H 'Content-Type: application/json' -d '{"key": "greeting", "value": "hello"}'"""
        return [
            f"curl {user} {address}/",
            f"curl {user} {value} {address}/data",
            f"curl {user} '{address}/data?key=greeting'",
        ]
    name = names[0] if names else "NAME"
    token = "$CLOISTER_ADMIN_TOKEN" if settings.admin_token else f"$(cat {settings.admin_token_path})"
    scripts = f"{admin}/client/v4/accounts/local/workers/dispatch/namespaces/{settings.namespace}/scripts"
    return [
        f"curl -H 'X-User-ID: {name}' {address}/",
        f'curl -H "Authorization: Bearer {token}" {scripts}',
        f'curl -H "Authorization: Bearer {token}" {scripts}/{name}',
    ]
