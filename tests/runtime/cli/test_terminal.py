"""Progress: what a terminal shows, and what a file or a pipe gets instead."""

from __future__ import annotations

import io
import sys
import time

import pytest

from runtime.cli.terminal import LiveTerminal, live_terminal, step


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_a_step_is_two_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with live_terminal(), step("Building x") as progress:
        progress.at("compiling")
        progress.note = "1 MB"
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Building x ..."
    assert lines[1].startswith("Building x: done in 0.") and lines[1].endswith("(1 MB)")


def test_a_step_that_fails_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), step("Building x"):
        raise ValueError
    assert "Building x: failed in" in capsys.readouterr().err


def test_on_a_terminal_a_step_shows_what_it_is_at_and_log_lines_come_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with live_terminal(), step("Building x") as progress:
        progress.at("compiling")
        while "compiling" not in screen.getvalue():
            time.sleep(0.01)
        sys.stderr.write("a log line\n")
    assert sys.stderr is screen
    assert "Building x, compiling ... 0 s\r\x1b[Ka log line\n" in screen.getvalue()
    assert "Building x: " in screen.getvalue().rsplit("\n", 2)[1]


def test_what_is_written_is_not_cleared_unless_something_was_drawn() -> None:
    screen = Screen()
    terminal = LiveTerminal(screen)
    terminal.write("a\n")
    terminal.draw("b")
    terminal.write("c\n")
    terminal.write("d\n")
    assert screen.getvalue() == "a\n\r\x1b[Kb\r\x1b[Kc\nd\n"
