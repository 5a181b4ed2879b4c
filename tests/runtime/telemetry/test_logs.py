"""The log: lines that nobody can forge, bounds that nobody can flood, and no line that holds a request up."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.telemetry.logs import Log, TenantLog, TenantLogLimits, open_log
from runtime.telemetry.text import harmless, harmless_lines
from runtime.telemetry.writer import LineWriter


class Captured:
    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@contextmanager
def opened(captured: Captured, **options: Any) -> Iterator[Log]:
    log = open_log(stream=captured.stream, **options)
    try:
        yield log
    finally:
        log.close()


def test_what_the_server_logs_is_one_json_object_a_line() -> None:
    captured = Captured()
    with opened(captured, form="json"):
        logging.getLogger("runtime.x").warning("two\nlines", extra={"fields": {"tenant": "a\nb", "n": 1}})
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("runtime.x").exception("failed")

    first, second = captured.entries
    assert (first["level"], first["logger"], first["message"]) == ("warn", "runtime.x", "two\nlines")
    assert (first["tenant"], first["n"]) == ("a\nb", 1)
    assert second["traceback"].endswith("ValueError: why")


def test_a_closed_log_takes_its_handler_and_its_thread_away() -> None:
    handlers, threads = list(logging.getLogger().handlers), threading.active_count()
    with opened(Captured()):
        assert logging.getLogger().handlers != handlers
    assert logging.getLogger().handlers == handlers
    assert threading.active_count() == threads


def test_lines_below_the_level_are_left_out() -> None:
    captured = Captured()
    with opened(captured, form="json", level="warning") as log:
        logging.getLogger("runtime.x").info("no")
        log.access(tenant="t", status=200, wall_ms=1, cpu_ms=1, request_id="r")
        log.tenant("t", "r", "info", "no")
        log.tenant("t", "r", "warn", "yes")
    assert [entry["message"] for entry in captured.entries] == ["yes"]


def test_a_request_leaves_one_line_whatever_the_caller_claims_to_be() -> None:
    claimed = 'x\n{"forged": true}\x1b[2J' + "y" * 1000
    for form in ("json", "pretty"):
        captured = Captured()
        with opened(captured, form=form) as log:
            log.access(tenant=claimed, status=404, wall_ms=1.23456, cpu_ms=0.5, request_id="r-1")
        (line,) = captured.lines
        assert "\x1b" not in line and len(line) < 400
        if form == "json":
            entry = json.loads(line)
            assert (entry["tenant"], entry["status"], entry["request"]) == (claimed[:64], 404, "r-1")
            assert (entry["wall_ms"], entry["cpu_ms"]) == (1.235, 0.5)


def test_the_access_lines_can_be_turned_off() -> None:
    captured = Captured()
    with opened(captured, access=False) as log:
        log.access(tenant="t", status=200, wall_ms=1, cpu_ms=1, request_id="r")
    assert captured.lines == []


def test_a_tenants_line_has_its_tenant_request_level_and_message() -> None:
    captured = Captured()
    with opened(captured, form="pretty") as log:
        TenantLog(log, "user1")("r-1", "warn", "careful")
    assert captured.lines == ["tenant=user1, request=r-1, level=warn, message=careful"]


def test_a_tenant_can_neither_forge_a_line_nor_steer_a_terminal() -> None:
    captured = Captured()
    forged = "a\ntenant=user2, request=r, level=info, message=forged\r\x1b[2J\u202eb\u2028c\x9b2J"
    with opened(captured, form="pretty") as log:
        TenantLog(log, "user1")("r-1", "info", forged)
    text = captured.stream.getvalue()
    assert not any(line.startswith("tenant=user2") for line in text.split("\n"))
    assert not set(text) & set("\x1b\r\u202e\u2028\x9b")
    assert "\\x1b[2J" in text


@given(st.text())
def test_harmless_text_is_one_line_without_control_characters(text: str) -> None:
    assert len(harmless(text).splitlines()) <= 1
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in harmless(text))
    assert all(line.startswith("    ") for line in harmless_lines(text).split("\n")[1:])
    harmless(text).encode()


def test_printable_text_stays_as_it_is() -> None:
    assert harmless("Grüße, 世界 🌍 \\n") == "Grüße, 世界 🌍 \\n"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def messages(captured: Captured) -> list[str]:
    return [entry["message"] for entry in captured.entries]


def test_a_request_that_logs_too_much_is_cut_off_once_and_others_go_on() -> None:
    captured = Captured()
    limits = TenantLogLimits(
        entry_bytes_max=1000, request_bytes_max=2000, second_bytes_max=10**6, burst_bytes_max=10**6
    )
    with opened(captured, form="json") as log:
        tenant = TenantLog(log, "t", limits)
        for _ in range(50):
            tenant("r-1", "info", "x" * 500)
        tenant("r-2", "info", "still here")
    assert messages(captured) == [
        *["x" * 500] * 3,
        "This request has logged 2000 bytes; the rest is left out. [limit.log]",
        "still here",
    ]


def test_a_worker_that_logs_too_fast_loses_entries_and_is_told_how_many() -> None:
    captured, clock = Captured(), Clock()
    limits = TenantLogLimits(entry_bytes_max=1000, request_bytes_max=10**9, second_bytes_max=1000, burst_bytes_max=1000)
    with opened(captured, form="json") as log:
        tenant = TenantLog(log, "t", limits, clock)
        for _ in range(100):
            tenant("r", "info", "x" * 372)
        clock.now += 1
        tenant("r", "info", "later")
    assert messages(captured) == [
        "x" * 372,
        "x" * 372,
        "98 entries were left out: this worker logs too much a second. [limit.log]",
        "later",
    ]


def test_empty_entries_are_not_free() -> None:
    captured, clock = Captured(), Clock()
    with opened(captured, form="json") as log:
        tenant = TenantLog(log, "t", TenantLogLimits(), clock)
        for number in range(100_000):
            tenant(f"r-{number}", "info", "")
    assert len(captured.lines) < 10_000


@pytest.mark.parametrize("character", ["x", "é", "世", "🌍", "\ud800"])
def test_a_huge_entry_is_cut(character: str) -> None:
    captured = Captured()
    with opened(captured, form="json") as log:
        TenantLog(log, "t", TenantLogLimits(entry_bytes_max=1000))("r", "info", character * 10_000)
    (message,) = messages(captured)
    assert message.endswith(" [cut: 10000 characters]")
    assert len(message.encode("utf-8", "surrogatepass")) < 1100


def test_an_unknown_level_counts_as_info() -> None:
    captured = Captured()
    with opened(captured, form="json") as log:
        TenantLog(log, "t")("r", "fatal\n", "x")
    assert captured.entries[0]["level"] == "info"


class Stuck(io.StringIO):
    """A stream whose reader has stopped reading."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.released = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.released.wait()
        return super().write(text)


def test_a_log_that_nobody_reads_holds_up_nobody_and_says_what_was_dropped() -> None:
    stream = Stuck()
    writer = LineWriter(stream, characters_max=1000)
    writer.write("first")
    stream.reached.wait()
    for _ in range(100):
        writer.write("x" * 100)
    stream.released.set()
    writer.close()
    lines = stream.getvalue().splitlines()
    assert lines.count("x" * 100) == 10
    assert lines[-1].startswith("90 log lines were dropped")


def test_a_stream_that_is_gone_does_not_end_the_server() -> None:
    stream = io.StringIO()
    stream.close()
    writer = LineWriter(stream)
    writer.write("x")
    writer.close()
