"""`cloister doctor`: whether this machine and this data directory are fit for a server, and what to do if not."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from runtime.cli.errors import CommandError
from runtime.cli.options import config_option, data_option, json_option
from runtime.cli.output import print_json
from runtime.settings import read

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@config_option
@data_option
@click.option("--port", type=click.IntRange(1, 65535), help="The port for tenants' traffic.  [default: 8787]")
@click.option("--admin-port", type=click.IntRange(1, 65535), help="The management port.  [default: 8788]")
@json_option
def doctor(config: Path | None, data: Path | None, port: int | None, admin_port: int | None, as_json: bool) -> None:
    """Check the installation, the machine and the data directory. A server may be running.

    Exit code 1: there is a problem, with which a server does not work as it should.
    """
    from runtime.cli.findings import examine

    findings = examine(read(config=config, data=data, port=port, admin_port=admin_port))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            state = click.style(f"{finding.state:<8}", fg=_COLOURS[finding.state])
            click.echo(f"{state} {finding.subject}: {finding.found}")
            if finding.advice:
                click.echo(f"{'':<8} -> {finding.advice}")
    problems = sum(finding.state == "problem" for finding in findings)
    if problems:
        raise CommandError(f"There {'is a problem' if problems == 1 else f'are {problems} problems'}.")
