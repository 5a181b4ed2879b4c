"""Tables on standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Cells are shown as they are: nothing in them is markup, and control characters are escaped."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from runtime.telemetry.text import harmless

    table = Table(*headings, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*[Text(harmless(cell)) for cell in row])
    # Piped somewhere, a line is as long as it has to be.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def moment(timestamp: str) -> str:
    """The API's timestamp to the second, for people."""
    return timestamp[:19].replace("T", " ") + "Z"
