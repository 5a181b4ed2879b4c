"""The entry point: which commands there are, and where each of them is."""

from __future__ import annotations

import importlib
import os
import sys

import click

from runtime.cli.errors import CommandError, ExitCode, show
from runtime.cli.terminal import live_terminal
from runtime.settings import SettingsError
from runtime.supervisor.errors import ProcessFailed

COMMANDS = {
    "init": "runtime.cli.init",
    "dev": "runtime.cli.dev",
    "serve": "runtime.cli.serve",
    "build": "runtime.cli.build",
    "deploy": "runtime.cli.deploy",
    "tenants": "runtime.cli.tenants",
    "delete": "runtime.cli.delete",
    "start": "runtime.cli.start",
    "versions": "runtime.cli.versions",
    "rollback": "runtime.cli.versions",
    "secret": "runtime.cli.secret",
    "tail": "runtime.cli.tail",
    "usage": "runtime.cli.usage",
    "kv": "runtime.cli.kv",
    "r2": "runtime.cli.r2",
    "d1": "runtime.cli.d1",
    "backup": "runtime.cli.backup",
    "restore": "runtime.cli.backup",
    "token": "runtime.cli.token",
    "config": "runtime.cli.config",
    "doctor": "runtime.cli.doctor",
}


class _LazyGroup(click.Group):
    """Imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cloister")
def cloister() -> None:
    """Host other people's Python workers, each in a WebAssembly component of its own."""


def main() -> None:
    try:
        with live_terminal():
            cloister.main(standalone_mode=False)
    except CommandError as error:
        show(error)
        sys.exit(error.exit_code)
    except SettingsError as error:
        show(CommandError("A setting is not right.", str(error)))
        sys.exit(ExitCode.USAGE)
    except ProcessFailed as error:
        show(CommandError("The server has failed.", str(error)))
        sys.exit(ExitCode.FAILED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has enough (`cloister tenants | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.FAILED)


if __name__ == "__main__":
    main()
