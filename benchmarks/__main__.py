"""`python -m benchmarks`, which `just bench` runs."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console

from benchmarks import report
from benchmarks.cases import CASES, PARTS
from benchmarks.measure import Plan, Row, watched

BUILD = Path(__file__).parents[1] / "build"


@click.command()
@click.option(
    "--case", "chosen", multiple=True, type=click.Choice([*CASES, *PARTS]), help="Only this case. Can be repeated."
)
@click.option("--short", is_flag=True, help="Shorter and rougher: two rounds of a second, up to 100 tenants.")
@click.option("--smoke", is_flag=True, help="Every case once, as short as can be: shows that they run, no more.")
@click.option("--tenants", "tenants_max", type=click.IntRange(1), help="The most tenants.  [default: 1000]")
@click.option("--rounds", type=click.IntRange(1), help="How often each contender has its turn.  [default: 3]")
@click.option("--output", type=click.Path(path_type=Path), help="[default: build/bench.json, bench-smoke.json]")
def main(
    chosen: tuple[str, ...], short: bool, smoke: bool, tenants_max: int | None, rounds: int | None, output: Path | None
) -> None:
    """Measure Cloister beside its peers. Exits with 0 unless something breaks, whatever the figures are."""
    console = Console(width=None if Console().is_terminal else 230)
    # So that servers end and directories go when the run is ended from outside.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    output = output or BUILD / ("bench-smoke.json" if smoke else "bench.json")
    started = time.monotonic()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="cloister-bench-") as directory:
        plan = Plan(
            seconds=1 if short or smoke else 2,
            rounds=rounds or (1 if smoke else 2 if short else 3),
            tenants_max=tenants_max or (3 if smoke else 100 if short else 1000),
            smoke=smoke,
            directory=Path(directory),
            say=lambda text: console.print(f"[dim]{time.monotonic() - started:7.1f} s  {text}[/dim]", highlight=False),
        )
        for case in chosen or CASES:
            plan.say(case)
            for row in watched({**CASES, **PARTS}[case](plan)):
                rows.append(row)
                # What has been measured stays if a later case breaks.
                report.write(output, rows, plan.missing)
        report.show(console, rows, plan.missing)
    console.print(f"{time.monotonic() - started:.0f} s; also in {output}")


if __name__ == "__main__":
    main()
