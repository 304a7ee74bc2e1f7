"""The report's rule, and what else is read from samples of a pool."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dbpilot.alerts import pool_findings
from dbpilot.config import PoolConfig
from dbpilot.pool.controller import decide, resized
from dbpilot.pool.outlook import exhaustion_of, holders_of
from dbpilot.pool.resizable import Hold
from dbpilot.pool.sample import Decision, PoolSample, merged, seconds_left

NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)
CONFIG = PoolConfig()


def _samples(used: list[float], size: int = 10, limit: int | None = 40) -> list[PoolSample]:
    start = NOON - timedelta(seconds=len(used) - 1)
    return [
        PoolSample(start + timedelta(seconds=number), size, limit, use, round(use), 0, 0)
        for number, use in enumerate(used)
    ]


def _decided(used: list[float], size: int = 10) -> Decision:
    decision = decide(_samples(used, size), CONFIG, NOON)
    assert decision is not None
    return decision


@pytest.mark.parametrize(
    ("utilization", "size", "wanted"),
    [
        (0.8, 5, 8),
        (0.79, 5, 5),
        (0.31, 20, 20),
        (0.3, 20, 11),
        (0.0, 20, 5),
        (7.0, 5, 20),
        (1.0, 20, 20),
        (0.1, 5, 5),
        (0.5, 50, 20),
        (0.5, 2, 5),
    ],
)
def test_it_grows_at_80_percent_and_shrinks_at_30_between_5_and_20(utilization: float, size: int, wanted: int) -> None:
    assert resized(utilization, size, CONFIG) == wanted


@given(st.floats(0, 20), st.integers(1, 60))
def test_a_new_size_is_within_bounds_and_stays_when_nothing_changes(utilization: float, size: int) -> None:
    wanted = resized(utilization, size, CONFIG)
    assert CONFIG.min_size <= wanted <= CONFIG.max_size
    if CONFIG.min_size < wanted < CONFIG.max_size:
        assert resized(utilization * size / wanted, wanted, CONFIG) == wanted, "no oscillation"


def test_the_average_since_the_last_review_decides() -> None:
    busy = _decided([10.0] * 300)
    assert (busy.action, busy.before, busy.size) == ("grow", 10, 19)
    assert "10.0 of 10 connections were in use (100%)" in busy.reason
    spike = _decided([1.0] * 299 + [40.0])
    assert (spike.action, spike.size) == ("shrink", 5)
    calm = _decided([5.0] * 300)
    assert (calm.action, calm.size) == ("keep", 10)
    full = decide(_samples([20.0] * 10, size=20), CONFIG, NOON)
    assert full is not None
    assert "20 is the most" in full.reason


def test_what_is_older_than_a_review_does_not_count() -> None:
    assert decide(_samples([9.0] * 10), CONFIG, NOON + timedelta(hours=1)) is None
    assert decide([], CONFIG, NOON) is None


def test_the_time_until_the_limit_follows_the_trend() -> None:
    assert seconds_left(_samples([float(number) for number in range(21)])) == pytest.approx(20, abs=0.5)
    assert seconds_left(_samples([5.0] * 60)) is None
    assert seconds_left(_samples([9.0 - number / 10 for number in range(60)])) is None
    assert seconds_left(_samples([float(number) for number in range(21)], limit=None)) is None


def test_exhaustion_is_warned_of_before() -> None:
    far, near = _samples([5.0] * 60), _samples([37.0] * 60)
    soon, reached = _samples([number / 2 for number in range(60)]), _samples([40.0] * 60)
    begun = _samples([0.0] * 30 + [13.0] * 30)
    assert exhaustion_of(begun, CONFIG).state == "far", "a load that begins is none that grows"
    states = [exhaustion_of(samples, CONFIG).state for samples in (far, near, soon, reached, [])]
    assert states == ["far", "near", "near", "reached", "unknown"]
    severities = [
        [finding.severity for finding in pool_findings(exhaustion_of(samples, CONFIG), [])]
        for samples in (far, soon, reached)
    ]
    assert severities == [[], ["WARNING"], ["CRITICAL"]]


def test_who_holds_a_connection_too_long_is_named() -> None:
    holders = holders_of([Hold(61.0, "shop/orders.py:41"), Hold(1.0, None)], CONFIG)
    [finding] = pool_findings(exhaustion_of([], CONFIG), holders)
    assert finding.message == "1 connections are held for 61 s and longer at shop/orders.py:41"


def test_samples_merge_without_losing_a_count() -> None:
    later = NOON + timedelta(seconds=1)
    one = PoolSample(NOON, 5, 35, 2.0, 3, 1, 4, 10, 0.5, 0.1, 1, 0, 2, 0, 1.0, 0.1, 1, 0.02, 1, 1.0)
    other = PoolSample(later, 8, 38, 4.0, 9, 0, 1, 5, 0.25, 0.3, 2, 1, 0, 3, 2.0, 0.4, 2, 0.04, 0, 4.0)
    both = PoolSample(later, 8, 38, 3.0, 9, 0, 4, 15, 0.75, 0.3, 3, 1, 2, 3, 3.0, 0.2, 3, 0.06, 1, 2.0)
    assert merged([one, other]) == both


@pytest.mark.parametrize("wrong", [{"min_size": 9, "max_size": 8}, {"grow_at": 0.3, "shrink_at": 0.3}])
def test_a_policy_that_contradicts_itself_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        PoolConfig.model_validate(wrong)
