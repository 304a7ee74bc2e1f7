"""What is said about the days after a signal, computed by hand and by brute force."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.market.indicators import Direction
from app.market.outcomes import outcome

# 100 on the signal's day; 102 after a day; 95 after a week; then up to 110, down to 88, and 105 after a month.
A_MONTH = [100, 102, 101, 99, 97, 95, 100, 105, 110, 104, 99, 88, 90, 92, 94, 96, 98, 100, 101, 102, 103, 105.0]


def after(closes, direction=Direction.RISE, day=0):
    return outcome(np.asarray(closes, dtype=float), day, direction)


def test_a_month_by_hand():
    found = after(A_MONTH)
    assert (found.return_1d, found.return_1w, found.return_1m) == (Decimal("0.02"), Decimal("-0.05"), Decimal("0.05"))
    assert found.max_return == Decimal("0.1")
    assert found.max_drawdown == Decimal("-0.2"), "from 110 to 88"
    assert found.last_day == 21
    assert found.success is True


def test_success_is_a_move_in_the_direction_of_the_signal():
    assert after(A_MONTH, Direction.FALL).success is False
    assert after(A_MONTH[::-1], Direction.FALL).success is True


@pytest.mark.parametrize("direction", Direction)
def test_no_move_is_no_success(direction):
    assert after([100.0] * 22, direction).success is False


def test_nothing_is_known_on_the_signals_own_day():
    assert after([100.0]) is None


@pytest.mark.parametrize(("days", "known", "last"), [(1, 1, 1), (4, 1, 1), (5, 2, 5), (20, 2, 5), (21, 3, 21)])
def test_a_figure_is_null_until_its_horizon_has_passed(days, known, last):
    found = after(A_MONTH[: days + 1])
    returns = [found.return_1d, found.return_1w, found.return_1m]
    assert [value is not None for value in returns] == [True] * known + [False] * (3 - known)
    assert found.last_day == last
    over = days >= 21
    assert [value is not None for value in (found.success, found.max_return, found.max_drawdown)] == [over] * 3


def test_what_comes_after_the_month_changes_nothing():
    assert after([*A_MONTH, 1.0, 1000.0]) == after(A_MONTH)


def test_a_share_that_only_fell_has_a_best_return_below_zero():
    assert after(range(100, 78, -1)).max_return == Decimal("-0.01")


def test_a_share_that_only_rose_was_never_drawn_down():
    assert str(after(range(100, 122)).max_drawdown) == "0.000000"


def test_a_price_of_zero_gives_no_return_rather_than_an_error():
    found = after([0.0] + [1.0] * 21)
    assert (found.return_1d, found.success, found.max_return, found.max_drawdown) == (None, None, None, None)


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, st.integers(23, 40), elements=st.floats(1, 1000)), st.sampled_from(Direction))
def test_every_figure_is_what_trying_all_days_finds(closes, direction):
    base, month = closes[1], closes[1:23]
    found = after(closes, direction, day=1)
    falls = [month[j] / month[i] - 1 for i in range(22) for j in range(i, 22)]
    assert float(found.return_1d) == pytest.approx(closes[2] / base - 1, abs=1e-6)
    assert float(found.return_1w) == pytest.approx(closes[6] / base - 1, abs=1e-6)
    assert float(found.return_1m) == pytest.approx(closes[22] / base - 1, abs=1e-6)
    assert float(found.max_return) == pytest.approx(max(month[1:]) / base - 1, abs=1e-6)
    assert float(found.max_drawdown) == pytest.approx(min(falls), abs=1e-6)
    assert found.success == (found.return_1m * direction > 0)
