"""The table of a tenant's limits, what the operator makes of it, and the rate of requests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import pytest

from runtime.engine.limits import InvalidLimits, LimitPolicy, Limits, limit_bounds, limit_codes
from runtime.engine.rate import COUNTERS_MAX, RequestRate, SharedCounts, new_counts_file
from runtime.settings import ServerSettings, SettingsError, read_settings


def test_every_number_has_bounds_around_its_default_and_a_code() -> None:
    for name, value in msgspec.structs.asdict(Limits()).items():
        if isinstance(value, int):
            bounds = limit_bounds(name)
            assert bounds is not None
            assert bounds[0] <= value <= bounds[1]
            assert limit_codes()[name].startswith("limit.")
        else:
            assert limit_bounds(name) is None


def test_who_says_nothing_gets_the_operators_defaults() -> None:
    policy = LimitPolicy({"cpu_ms": 70, "isolation": "request"})

    assert policy.read({}) == Limits(cpu_ms=70, isolation="request")
    assert policy.read({"cpu_ms": 80}) == Limits(cpu_ms=80, isolation="request")


def test_nobody_gets_more_than_the_operators_maximum() -> None:
    policy = LimitPolicy(maximum={"cpu_ms": 70})

    assert policy.read({}).cpu_ms == 70
    assert policy.read({"cpu_ms": 70}).cpu_ms == 70
    with pytest.raises(InvalidLimits, match="cpu_ms: expected int <= 70, the operator's maximum"):
        policy.read({"cpu_ms": 71})


def test_what_was_deployed_under_a_higher_maximum_comes_under_the_present_one() -> None:
    policy = LimitPolicy(maximum={"cpu_ms": 70, "wall_ms": 100_000})

    assert policy.clamp(Limits(cpu_ms=500, wall_ms=50)) == Limits(cpu_ms=70, wall_ms=50)


def test_the_settings_are_pairs() -> None:
    environment = {"CLOISTER_LIMITS_DEFAULT": "cpu_ms=70, isolation=request", "CLOISTER_LIMITS_MAX": "wall_ms=900"}

    policy = LimitPolicy.of(read_settings(environment))

    assert policy.read({}) == Limits(cpu_ms=70, wall_ms=900, isolation="request")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"limits_default": {"cpu_ms": 0}}, "limits_default: cpu_ms: expected int >= 1"),
        ({"limits_default": {"cpu": 1}}, "limits_default: there is no limit 'cpu'"),
        ({"limits_max": {"cpu_ms": 10**9}}, "limits_max: cpu_ms: expected int <= 300000"),
        ({"limits_max": {"isolation": "request"}}, "limits_max: isolation: has no maximum"),
    ],
)
def test_limits_that_cannot_be_are_told_by_the_settings_name(settings: dict[str, dict[str, int]], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        LimitPolicy.of(ServerSettings(**settings))


@pytest.mark.parametrize("text", ["cpu_ms", "cpu_ms=", "=5", "cpu_ms=5,,"])
def test_a_setting_that_is_not_pairs_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="CLOISTER_LIMITS_MAX: must be pairs"):
        read_settings({"CLOISTER_LIMITS_MAX": text})


@pytest.fixture
def counts_file() -> Iterator[int]:
    descriptor = new_counts_file(2)
    yield descriptor
    os.close(descriptor)


def test_processes_share_a_rate(counts_file: int) -> None:
    here, there = SharedCounts(counts_file, 0, 2), SharedCounts(counts_file, 1, 2)
    one = RequestRate(10, 0.0, here.counter("a tenant"))
    other = RequestRate(10, 0.0, there.counter("a tenant"))
    of_another_tenant = RequestRate(10, 0.0, there.counter("another tenant"))

    let_in = [rate.take(0.0) == 0.0 for _ in range(10) for rate in (one, other)]

    assert sum(let_in) == 10
    assert [of_another_tenant.take(0.0) for _ in range(10)] == [0.0] * 10
    assert sum(rate.take(0.5) == 0.0 for _ in range(10) for rate in (other, one)) == 5


def test_a_process_that_is_replaced_begins_to_count_anew_and_the_others_go_on(counts_file: int) -> None:
    here, there = SharedCounts(counts_file, 0, 2), SharedCounts(counts_file, 1, 2)
    one, other = RequestRate(10, 0.0, here.counter("a")), RequestRate(10, 0.0, there.counter("a"))
    assert [other.take(0.0) for _ in range(6)] == [0.0] * 6
    assert [one.take(0.0) for _ in range(4)] == [0.0] * 4

    replaced = RequestRate(10, 1.0, SharedCounts(counts_file, 1, 2).counter("a"))

    assert [replaced.take(1.0) for _ in range(6)] == [0.0] * 6
    assert sum(one.take(1.0) == 0.0 for _ in range(10)) == 4


def test_a_counter_that_was_given_back_is_used_again(counts_file: int) -> None:
    counts, other = SharedCounts(counts_file, 0, 2), SharedCounts(counts_file, 1, 2)
    here = other.counter("kept")
    assert here is not None

    for number in range(3 * COUNTERS_MAX):
        counter = counts.counter(f"tenant {number}")
        assert counter is not None
        counter.count()
        counter.close()
    kept = counts.counter("kept")
    assert kept is not None
    kept.count()

    assert (here.take_elsewhere(), here.take_elsewhere()) == (1, 0)


def test_there_are_only_so_many_counters(counts_file: int) -> None:
    counts = SharedCounts(counts_file, 0, 2)

    assert None in [counts.counter(f"tenant {number}") for number in range(COUNTERS_MAX + 1)]


def test_a_rate_lets_a_seconds_worth_through_at_once_and_then_as_much_as_time_brings() -> None:
    rate = RequestRate(10, 0.0)

    assert [rate.take(0.0) for _ in range(10)] == [0.0] * 10
    assert rate.take(0.0) == pytest.approx(0.1)
    assert rate.take(0.25) == 0.0
    assert rate.take(0.25) == 0.0
    assert rate.take(0.25) > 0
    assert sum(rate.take(100.0) == 0.0 for _ in range(50)) == 10
