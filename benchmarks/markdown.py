"""build/bench.json as the table of docs/performance.md: `python -m benchmarks.markdown [FILE]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import number

DEFAULT = Path(__file__).parents[1] / "build" / "bench.json"
HEAD = "| case | Cloister | spread | yardsticks | ratio | goal | met | CPU us | others |"


def table(document: dict[str, Any]) -> str:
    """A line for each row of the result."""
    lines = [HEAD, "|---|--:|--:|---|--:|---|---|---|--:|"]
    return "\n".join([*lines, *(_line(name, case) for name, case in document["cases"].items())])


def _line(name: str, case: dict[str, Any]) -> str:
    beside = ", ".join(f"{peer} {number(value)}" for peer, value in case["yardstick"].items())
    met = {True: "yes", False: "no", None: ""}[case["met"]]
    met += "?" if met and case["disturbed"] else ""
    cells = [
        name,
        f"{number(case['value'])} {case['unit']}",
        f"{case['spread']:.0%}" if len(case["rounds"]) > 1 and case["spread"] is not None else "",
        "; ".join(filter(None, [beside, case["note"]])),
        number(case["ratio"]) if case["ratio"] is not None else "",
        case["goal"] or "",
        met,
        ", ".join(f"{peer} {number(value)}" for peer, value in case["cpu_us"].items()),
        "" if case["foreign_cores"] is None else f"{case['foreign_cores']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else DEFAULT).read_text())))
