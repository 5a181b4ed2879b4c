"""Templates and static files, and how figures are written. Everything that goes into a page is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from runtime.control.guard import PAGES

PREFIX = f"{PAGES}/"

_DIRECTORY = Path(__file__).parent
_MEDIA = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Pages:
    """Renders templates. Reads them, and the static files, when it is made."""

    def __init__(self) -> None:
        loader = FileSystemLoader(_DIRECTORY / "templates")
        self._environment = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._environment.globals["root"] = PREFIX
        self._environment.filters |= {
            "bytes": show_bytes,
            "count": show_count,
            "ms": show_ms,
            "moment": show_moment,
            "part": lambda text: quote(text, safe=""),
        }
        self._templates = {name: self._environment.get_template(name) for name in self._environment.list_templates()}
        self.static: Mapping[str, tuple[str, bytes]] = {
            path.name: (_MEDIA[path.suffix], path.read_bytes()) for path in sorted((_DIRECTORY / "static").iterdir())
        }
        """Media type and content by file name."""

    def render(self, template: str, **values: Any) -> str:
        return self._templates[template].render(**values)


def show_bytes(number: float) -> str:
    """1536 is "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def show_count(number: float) -> str:
    return f"{number:,.0f}"


def show_ms(milliseconds: float | None) -> str:
    """None is what was not measured."""
    if milliseconds is None:
        return "–"
    if milliseconds >= 10_000:
        return f"{milliseconds / 1000:,.1f} s"
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:,.0f} ms"


def show_moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
