"""How a command fails: one shape for people, and exit codes that scripts can use.

0    done
1    it could not be done; the message says why
2    the command line or the configuration is wrong
3    the server cannot be reached, or does not take the token
130  interrupted
"""

from __future__ import annotations

from enum import IntEnum

import click


class ExitCode(IntEnum):
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


class CommandError(Exception):
    """A failure that the user can do something about.

    `headline` says what failed, `details` what exactly is wrong, `solution` what to do.
    """

    def __init__(
        self, headline: str, details: str = "", solution: str = "", exit_code: ExitCode = ExitCode.FAILED
    ) -> None:
        super().__init__(headline)
        self.headline = headline
        self.details = details
        self.solution = solution
        self.exit_code = exit_code


def show(error: CommandError) -> None:
    """Says on standard error what failed, why, and what to do."""
    click.secho("error", fg="red", bold=True, nl=False, err=True)
    click.echo(f": {error.headline}", err=True)
    for line in error.details.splitlines():
        click.echo(f"  {line}", err=True)
    for index, line in enumerate(error.solution.splitlines()):
        click.echo(f"  {line}" if index else f"To solve it: {line}", err=True)
