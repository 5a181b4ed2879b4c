"""Progress on the terminal: named steps with the time that they have taken."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO, cast

import click

_TICK_S = 0.2
_CLEAR = "\r\x1b[K"


class Step:
    """A step under way. `note` is shown when it is done."""

    def __init__(self, doing: str) -> None:
        self.doing = doing
        self.note = ""
        self._phrase = ""
        self._started = time.monotonic()

    def at(self, phrase: str) -> None:
        """Says what the step is at."""
        self._phrase = f", {phrase}"

    def line(self) -> str:
        return f"{self.doing}{self._phrase} ... {self.elapsed_s:.0f} s"

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started


class LiveTerminal(io.TextIOBase):
    """A terminal whose last line may be a drawing: what else is written comes above it."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._drawn = False
        self._lock = threading.Lock()

    def draw(self, line: str) -> None:
        with self._lock:
            self._terminal.write(_CLEAR + line)
            self._terminal.flush()
            self._drawn = True

    def write(self, text: str) -> int:
        with self._lock:
            if self._drawn:
                self._terminal.write(_CLEAR)
                self._drawn = False
            return self._terminal.write(text)

    def flush(self) -> None:
        self._terminal.flush()

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._terminal.fileno()


@contextlib.contextmanager
def live_terminal() -> Iterator[None]:
    """Lets steps and log lines share standard error, if that is a terminal."""
    original = sys.stderr
    if original.isatty():
        sys.stderr = cast(TextIO, LiveTerminal(original))
    try:
        yield
    finally:
        sys.stderr = original


@contextlib.contextmanager
def step(doing: str) -> Iterator[Step]:
    """Says what is being done, how long it took and how it ended; under `live_terminal` also how long already."""
    current = Step(doing)
    terminal = sys.stderr if isinstance(sys.stderr, LiveTerminal) else None
    if terminal is None:
        click.echo(f"{doing} ...", err=True)
    mark = click.style("failed", fg="red")
    try:
        with _shown(current, terminal):
            yield current
        mark = click.style("done", fg="green")
    finally:
        note = f" ({current.note})" if current.note else ""
        click.echo(f"{doing}: {mark} in {current.elapsed_s:.1f} s{note}", err=True)


@contextlib.contextmanager
def _shown(current: Step, terminal: LiveTerminal | None) -> Iterator[None]:
    if terminal is None:
        yield
        return
    done = threading.Event()
    ticker = threading.Thread(target=_tick, args=(current, terminal, done), name="progress", daemon=True)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()


def _tick(current: Step, terminal: LiveTerminal, done: threading.Event) -> None:
    while not done.wait(_TICK_S):
        terminal.draw(current.line())
