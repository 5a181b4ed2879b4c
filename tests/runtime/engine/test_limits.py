"""The table of a tenant's limits, what the operator makes of it, and the rate of requests."""

from __future__ import annotations

import msgspec
import pytest

from runtime.engine.limits import InvalidLimits, LimitPolicy, Limits, limit_bounds, limit_codes
from runtime.engine.rate import RequestRate
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


def test_a_rate_lets_a_seconds_worth_through_at_once_and_then_as_much_as_time_brings() -> None:
    rate = RequestRate(10, 0.0)

    assert [rate.take(0.0) for _ in range(10)] == [0.0] * 10
    assert rate.take(0.0) == pytest.approx(0.1)
    assert rate.take(0.25) == 0.0
    assert rate.take(0.25) == 0.0
    assert rate.take(0.25) > 0
    assert sum(rate.take(100.0) == 0.0 for _ in range(50)) == 10
