"""Whom the circuit breaker stops, and for how long it remembers."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from runtime.settings import SettingsError
from runtime.stopped import StoppedScript, StoppedScripts, load_stops
from runtime.supervisor.breaker import CRASH_WINDOW_S, Breaker

LABEL = "production/acme/version-1"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stopped.json"


def test_the_third_crash_within_the_window_stops_the_version(path: Path) -> None:
    breaker = Breaker(path, 3)

    assert [breaker.crashed(LABEL, "signal SIGSEGV") is None for _ in range(2)] == [True, True]
    stop = breaker.crashed(LABEL, "signal SIGSEGV")

    assert stop is not None
    assert (stop.namespace, stop.script, stop.version) == ("production", "acme", "version-1")
    assert "3 times within 10 minutes" in stop.reason and "SIGSEGV" in stop.reason
    assert load_stops(path) == (stop,)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_crashes_long_ago_and_those_of_other_versions_do_not_count(path: Path) -> None:
    clock = Clock()
    breaker = Breaker(path, 3, clock)

    for n in range(10):
        assert breaker.crashed(LABEL, "signal SIGSEGV") is None
        assert breaker.crashed(f"production/acme/other-{n}", "signal SIGSEGV") is None
        clock.now += CRASH_WINDOW_S / 2 + 1

    assert breaker.stops == []


def test_zero_crashes_means_that_none_is_stopped(path: Path) -> None:
    breaker = Breaker(path, 0)

    assert [breaker.crashed(LABEL, "signal SIGSEGV") for _ in range(10)] == [None] * 10


def test_a_stop_outlives_the_supervisor_until_it_is_taken_off(path: Path) -> None:
    first = Breaker(path, 1)
    first.crashed(LABEL, "signal SIGABRT")

    second = Breaker(path, 1)
    assert [stop.script for stop in second.stops] == ["acme"]
    assert second.start("another") is None
    assert second.start("version-1") is not None

    assert Breaker(path, 1).stops == []


def test_a_record_that_cannot_be_read_is_named(path: Path) -> None:
    path.write_text("no record")

    with pytest.raises(SettingsError, match=r"stopped\.json cannot be read"):
        Breaker(path, 3)


def test_a_process_asks_for_a_start_and_lets_the_version_run_at_once() -> None:
    stop = StoppedScript("production", "acme", "version-1", 0, "")
    stopped = StoppedScripts([stop])
    asked: list[StoppedScript] = []
    changes: list[StoppedScript | None] = []
    stopped.asks(asked.append)
    stopped.subscribe(lambda: changes.append(stopped.find("version-1")))

    assert not stopped.start("another")
    assert stopped.start("version-1")

    assert (asked, changes, stopped.all()) == ([stop], [None], ())
