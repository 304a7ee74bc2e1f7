"""Indicators and the days on which signals begin, against plain arithmetic and on real prices."""

from math import sqrt
from statistics import fmean, pstdev

import numpy as np
import pytest
from bokeh_sampledata import stocks
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.market.indicators import SIGNAL_TYPES, Direction, detect, indicators
from app.market.models import TechnicalSignal

CALM_DAYS = 20
SPLIT_DAYS = ["2000-06-21", "2005-02-28"]  # Apple's two-for-one splits within the sample


def begun(closes):
    return [(found.day, found.signal_type) for found in detect(np.asarray(closes, dtype=float))]


def random_walk(days, seed=1):
    return 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.02, days)))


def naive_rsi(closes, window=14):
    """Wilder's index, as he wrote it down in 1978."""
    changes = np.diff(closes)
    gain = fmean(max(change, 0) for change in changes[:window])
    loss = fmean(max(-change, 0) for change in changes[:window])
    values = [float("nan")] * window + [100 * gain / (gain + loss)]
    for change in changes[window:]:
        gain = (gain * (window - 1) + max(change, 0)) / window
        loss = (loss * (window - 1) + max(-change, 0)) / window
        values.append(100 * gain / (gain + loss))
    return values


def naive_conditions(closes):
    """The days on which each condition holds, one window at a time; None where it is not defined."""

    def rolling(window, of):
        return [None if day < window - 1 else of(closes[day - window + 1 : day + 1]) for day in range(len(closes))]

    def compare(ones, others):
        return [None if a is None or b is None else bool(a > b) for a, b in zip(ones, others, strict=True)]

    average = {days: rolling(days, fmean) for days in (20, 50, 200)}
    rsi = [None if value != value else value for value in naive_rsi(closes)]
    conditions = {
        "golden_cross": compare(average[50], average[200]),
        "dead_cross": compare(average[200], average[50]),
        "rsi_overbought": compare(rsi, [70.0] * len(rsi)),
        "rsi_oversold": compare([30.0] * len(rsi), rsi),
        "bollinger_upper_touch": compare(closes, rolling(20, lambda window: fmean(window) + 2 * pstdev(window))),
        "bollinger_lower_touch": compare(rolling(20, lambda window: fmean(window) - 2 * pstdev(window)), closes),
    }
    for days, values in average.items():
        conditions[f"ma{days}_cross_up"] = compare(closes, values)
        conditions[f"ma{days}_cross_down"] = compare(values, closes)
    return conditions


def naive_signals(closes):
    return {
        (day, name)
        for name, holds in naive_conditions(closes).items()
        for day in range(1, len(closes))
        if holds[day] is True and holds[day - 1] is False
    }


@pytest.mark.parametrize("symbol", ["AAPL", "FB"])
def test_signals_of_real_prices_are_those_that_plain_arithmetic_finds(symbol):
    closes = getattr(stocks, symbol)["adj_close"]
    assert set(begun(closes)) == naive_signals(closes)


def test_a_jump_after_calm_days_begins_what_the_definitions_say():
    closes = [10.0] * CALM_DAYS + [12.0]
    [jump] = [found for found in detect(np.array(closes)) if found.signal_type == "bollinger_upper_touch"]
    mean = (10 * 19 + 12) / 20
    deviation = sqrt((19 * (10 - mean) ** 2 + (12 - mean) ** 2) / 20)
    assert (jump.day, jump.price) == (20, 12.0)
    assert jump.indicator_value == pytest.approx(mean + 2 * deviation)
    assert begun(closes) == [(20, "ma20_cross_up"), (20, "rsi_overbought"), (20, "bollinger_upper_touch")]


def test_a_condition_that_goes_on_begins_only_once():
    closes = [10.0] * CALM_DAYS + [12.0, 13.0, 14.0]
    assert [day for day, name in begun(closes) if name == "ma20_cross_up"] == [20]


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, st.integers(2, 320), elements=st.integers(50, 150).map(float)),
    st.floats(0, 1),
)
def test_the_future_changes_nothing_of_what_was_detected(closes, share):
    known = int(len(closes) * share)
    assert begun(closes[:known]) == [signal for signal in begun(closes) if signal[0] < known]


@pytest.mark.parametrize("days", [0, 1, 2, 13, 14, 19])
def test_too_few_days_begin_nothing(days):
    assert begun(random_walk(days)) == []


def test_no_signal_begins_before_its_window_is_full():
    first = {}
    for day, name in begun(random_walk(3000)):
        first.setdefault(name, day)
    windows = {"ma20": 20, "ma50": 50, "ma200": 200, "golden": 200, "dead": 200, "rsi": 15, "bollinger": 20}
    assert first.keys() == SIGNAL_TYPES.keys()
    assert all(day >= windows[name.split("_")[0]] for name, day in first.items())


def test_a_halted_share_gives_no_signals():
    halted = np.concatenate([random_walk(300), np.full(900, 100.1)])
    assert [signal for signal in begun(halted) if signal[0] >= 300 + 200] == []


@pytest.mark.parametrize("seed", range(10))
def test_an_average_of_equal_closes_is_not_crossed_by_rounding(seed):
    halted = np.concatenate([random_walk(300, seed), np.full(50, 100.1)])
    assert [day for day, name in begun(halted) if name.startswith("ma20") and day >= 300 + 19] == []


def test_correcting_all_prices_for_a_split_changes_no_signal():
    closes = random_walk(1000)
    assert begun(closes / 2) == begun(closes)


@pytest.mark.parametrize("day", SPLIT_DAYS)
def test_a_split_is_no_fall(day):
    def falls(prices):
        return {name for at, name in begun(prices) if at == stocks.AAPL["date"].index(day)} & {
            name for name, kind in SIGNAL_TYPES.items() if "cross" in name and kind.direction is Direction.FALL
        }

    assert falls(stocks.AAPL["close"]) != set(), "the raw closes have a cliff there"
    assert falls(stocks.AAPL["adj_close"]) == set()


def test_indicators_are_as_long_as_the_closes():
    series = vars(indicators(random_walk(250)))
    assert {name: len(values) for name, values in series.items()} == dict.fromkeys(series, 250)


def test_every_name_fits_its_column():
    assert max(map(len, SIGNAL_TYPES)) <= TechnicalSignal.__table__.c.signal_type.type.length
