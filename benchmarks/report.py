"""The table at the end of a run, and build/bench.json."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import load
from benchmarks.measure import CLOISTER, DISTURBED_CORES, Row
from benchmarks.provenance import revision

LEGEND = f"""\
+-: from the lowest round to the highest. Ratio: to the goal's yardstick, the median of the rounds' ratios.
CPU us: of the server's processes, a request; CPU ratio: to the yardstick's, better below 1.
others: cores that other programs took, in the worst round. Above {DISTURBED_CORES} a verdict proves little (?)."""


def table(rows: Sequence[Row]) -> Table:
    """A line for each row; a blank one between cases."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    right = ("Cloister", "+-", "ratio", "CPU us", "CPU ratio", "others")
    for title in ("case", "Cloister", "+-", "unit", "yardsticks", "ratio", "goal", "met", *right[3:]):
        shown.add_column(title, justify="right" if title in right else "left", overflow="fold")
    case = ""
    for row in rows:
        if row.name.split("/")[0] != case:
            if case:
                shown.add_section()
                shown.add_row()
            case = row.name.split("/")[0]
        shown.add_row(*_cells(row))
    return shown


def _cells(row: Row) -> list[str]:
    beside = ", ".join(f"{name} {number(row.yardstick(name))}" for name in row.yardsticks)
    spread = "" if row.spread is None or len(row.values) < 2 else f"{row.spread:.0%}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    met = {True: "yes", False: "NO", None: "-" if row.goal else ""}[row.met]
    if row.disturbed and row.met is not None:
        met += "?"
    notes = "; ".join(filter(None, [beside, row.note]))
    cpu = number(row.cpu_us.get(CLOISTER)) if row.cpu_us else ""
    cpu_ratio = "" if row.cpu_ratio is None else f"{row.cpu_ratio:.2f}"
    others = "" if row.foreign_cores is None else f"{row.foreign_cores:.1f}"
    return [
        row.name,
        number(row.value),
        spread,
        row.unit,
        notes,
        ratio,
        str(row.goal or ""),
        met,
        cpu,
        cpu_ratio,
        others,
    ]


def number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def document(rows: Sequence[Row], missing: Mapping[str, str]) -> dict[str, Any]:
    return {
        "machine": machine(),
        "revision": revision(),
        "code": sorted({row.code for row in rows}),
        "load": load.generator_name(),
        "missing": dict(missing),
        "cases": {
            row.name: {
                "value": row.value,
                "unit": row.unit,
                "yardstick": {name: row.yardstick(name) for name in row.yardsticks},
                "ratio": row.ratio,
                "goal": str(row.goal) if row.goal else None,
                "met": row.met,
                "spread": row.spread,
                "rounds": list(row.values),
                "cpu_us": dict(row.cpu_us),
                "cpu_ratio": row.cpu_ratio,
                "foreign_cores": row.foreign_cores,
                "disturbed": row.disturbed,
                "code": row.code,
                "note": row.note,
            }
            for row in rows
        },
    }


def machine() -> str:
    """The processor, how much of it there is, and what else it was doing when asked."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    load_average = os.getloadavg()[1]
    python = platform.python_version()
    return f"{model}, {os.cpu_count()} cores, load average over 5 minutes {load_average:.1f}, Python {python}"


def write(path: Path, rows: Sequence[Row], missing: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(rows, missing), indent=2) + "\n")


def show(console: Console, rows: Sequence[Row], missing: Mapping[str, str]) -> None:
    console.print()
    console.print(table(rows))
    console.print()
    console.print(f"Machine: {machine()}. Load from {load.generator_name()}.")
    for name, reason in missing.items():
        console.print(f"Without {name}: {reason}")
    console.print(f"Code: {revision()}.")
    if len({row.code for row in rows}) > 1:
        console.print("[bold]The code under test changed during this run: its rows are not of one program.[/bold]")
    console.print(LEGEND)
    judged = [row for row in rows if row.met is not None]
    disturbed = sum(row.disturbed for row in judged)
    met = sum(bool(row.met) for row in judged)
    console.print(f"{met} of {len(judged)} goals that could be judged are met; {disturbed} were disturbed.")
