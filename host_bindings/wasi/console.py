"""Standard output and error of one instance: lines on their way to the tenant's log.

What a call prints is bounded twice: beyond `printed_bytes_max` or `LINES_MAX` it is dropped, and the log says how much
was; and what is dropped is taken at `DROPPED_BYTES_PER_S` at most, so that a guest that prints without end waits (until
its wall-clock limit) instead of keeping the event loop busy.
"""

from __future__ import annotations

from typing import cast

from host_bindings.context import GuestContext

LINES_MAX = 1_000
"""What one call may print, on both streams together."""

LINE_BYTES_MAX = 16 * 1024
"""A longer line becomes several entries."""

DROPPED_BYTES_PER_S = 256 * 1024
DELAY_S_MIN = 0.002

_CONSOLE = "wasi.console"


class Console:
    """Both streams and what they may still print in this call."""

    def __init__(self, context: GuestContext) -> None:
        self._context = context
        # Warnings, progress, logging's default: most of what programs write to standard error is not an error. What a
        # worker does not catch is logged as an error by other means.
        self.stdout = Printer(self, "info")
        self.stderr = Printer(self, "warn")
        self.bytes_left = context.printed_bytes_max
        self.lines_left = LINES_MAX
        self.dropped_bytes = 0

    def log(self, level: str, message: str) -> None:
        # Not kept at the start: the context gets another writer for each call.
        self._context.log(level, message)

    def flush(self) -> None:
        """The end of a call: writes unfinished lines, says what was dropped, and allows the full amount again."""
        self.stdout.end_line()
        self.stderr.end_line()
        if self.dropped_bytes:
            self.log("warn", f"The worker printed too much: {self.dropped_bytes} bytes were dropped. [limit.log]")
        self.bytes_left = self._context.printed_bytes_max
        self.lines_left = LINES_MAX
        self.dropped_bytes = 0


class Printer:
    """One stream: collects bytes and logs each line of text at `level`."""

    def __init__(self, console: Console, level: str) -> None:
        self._console = console
        self._level = level
        self._line = bytearray()

    def write(self, data: bytes) -> float:
        """Takes the bytes. Returns the time in seconds that the guest has to wait, 0 while it is within bounds."""
        console = self._console
        kept = data[: console.bytes_left] if console.lines_left else b""
        console.bytes_left -= len(kept)
        self._line += kept
        self._log_lines()
        excess_bytes = len(data) - len(kept)
        console.dropped_bytes += excess_bytes
        return max(excess_bytes / DROPPED_BYTES_PER_S, DELAY_S_MIN) if excess_bytes else 0.0

    def end_line(self) -> None:
        """Logs what there is of a line."""
        if self._line:
            self._log(len(self._line))

    def _log_lines(self) -> None:
        line = self._line
        while self._console.lines_left:
            end = line.find(b"\n", 0, LINE_BYTES_MAX)
            if end >= 0:
                self._log(end)
                del line[:1]
            elif len(line) >= LINE_BYTES_MAX:
                self._log(_character_boundary(line, LINE_BYTES_MAX))
            else:
                return
        self._console.dropped_bytes += len(line)
        line.clear()

    def _log(self, size: int) -> None:
        text = self._line[:size].decode("utf-8", "replace").removesuffix("\r")
        del self._line[:size]
        self._console.lines_left -= 1
        self._console.log(self._level, text)


def flush(context: GuestContext) -> None:
    """Called by the engine after each call of the instance: see `Console.flush`."""
    console = context.state.get(_CONSOLE)
    if console is not None:
        cast(Console, console).flush()


def console_of(context: GuestContext) -> Console:
    """The instance's console, the same each time."""
    console = context.state.get(_CONSOLE)
    if console is None:
        console = context.state[_CONSOLE] = Console(context)
    return cast(Console, console)


def _character_boundary(line: bytearray, end: int) -> int:
    """`end`, or up to three bytes before it if it falls into a UTF-8 sequence."""
    for back in range(4):
        if end - back < len(line) and line[end - back] & 0xC0 != 0x80:
            return end - back
    return end
