"""What the log's thread writes, and in which pieces."""

from __future__ import annotations

import io

from runtime.telemetry.writer import PIECE_BYTES, LineWriter


class Stream(io.StringIO):
    """Keeps what each write was given."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return len(text)


def test_lines_are_written_whole_in_pieces_that_a_pipe_does_not_tear() -> None:
    lines = [f"{n} " + "é" * (n * 37 % 500) for n in range(100)] + ["x" * 10_000, "last"]
    stream = Stream()
    writer = LineWriter(stream)

    for line in lines:
        writer.write(line)
    writer.close()

    assert "".join(stream.pieces) == "".join(f"{line}\n" for line in lines)
    assert all(piece.endswith("\n") for piece in stream.pieces)
    assert [len(piece) for piece in stream.pieces if len(piece.encode()) > PIECE_BYTES] == [10_001]
    assert len(stream.pieces) < len(lines)
