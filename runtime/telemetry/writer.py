"""A bounded buffer of log lines and the thread that writes them out."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TextIO

BUFFERED_CHARACTERS_MAX = 8 * 1024 * 1024
"""What may wait to be written; lines beyond it are dropped and counted."""

_DRAIN_S = 2.0

_GATHER_S = 0.02
"""How long lines are gathered before they are written: a thread that woke for each line would compete with the event
loop for every one."""


PIECE_BYTES = 4096
"""What is written at once. Several processes may share a stream: of a pipe's readers none sees pieces up to this size
(PIPE_BUF) torn apart. A longer line is written alone."""


class LineWriter:
    """Writes lines to a stream from a thread of its own; `write` never waits. Close it to write out what is left."""

    def __init__(self, stream: TextIO, characters_max: int = BUFFERED_CHARACTERS_MAX) -> None:
        self._stream = stream
        self._characters_max = characters_max
        self._lines: deque[str] = deque()
        self._characters = 0
        self._dropped = 0
        self._lock = threading.Lock()
        self._filled = threading.Event()
        self._ending = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Appends a line (without its line break)."""
        with self._lock:
            if self._closing or self._characters + len(line) > self._characters_max:
                self._dropped += 1
                return
            self._lines.append(line)
            self._characters += len(line)
            waking = len(self._lines) == 1
        if waking:
            self._filled.set()

    def close(self) -> None:
        """Waits until what was written is out, but not for long if nobody reads the stream."""
        with self._lock:
            self._closing = True
        self._ending.set()
        self._filled.set()
        self._thread.join(_DRAIN_S)

    def _run(self) -> None:
        while True:
            self._filled.wait()
            self._ending.wait(_GATHER_S)
            self._filled.clear()
            with self._lock:
                lines, self._lines = self._lines, deque()
                dropped, self._dropped = self._dropped, 0
                self._characters = 0
                closing = self._closing
            if dropped:
                lines.append(f"{dropped} log lines were dropped: they came faster than they could be written")
            for text in _pieces(lines):
                self._put(text)
            if closing:
                return

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            pass  # Nobody reads the log any more; serving goes on.


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Whole lines, with their line breaks, as many together as a piece may hold."""
    piece: list[str] = []
    size = 0
    for line in lines:
        length = (len(line) if line.isascii() else len(line.encode("utf-8", "replace"))) + 1
        if piece and size + length > PIECE_BYTES:
            yield "\n".join(piece) + "\n"
            piece, size = [], 0
        piece.append(line)
        size += length
    if piece:
        yield "\n".join(piece) + "\n"
