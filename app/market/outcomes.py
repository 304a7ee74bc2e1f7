"""What the prices did after a signal.

Pure: closes in, an outcome out. Returns are fractions of the close on the signal's day (0.05 is five percent), rounded
to the six decimals that are stored, so that every other figure can be recomputed from the row.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np

from app.market.indicators import Direction, Series

HORIZONS_DAYS: Final = (1, 5, 21)
"""Trading days in a day, a week and a month."""
MONTH_DAYS: Final = HORIZONS_DAYS[-1]

DECIMALS: Final = 6
LARGEST_FRACTION: Final = 1e6
"""What the column holds; a larger move is a broken price rather than a return."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one signal; None where its horizon has not passed."""

    return_1d: Decimal | None
    return_1w: Decimal | None
    return_1m: Decimal | None
    success: bool | None
    max_return: Decimal | None
    max_drawdown: Decimal | None
    last_day: int
    """Number of the last day of the series that was used."""


def outcome(closes: Series, day: int, direction: Direction) -> Outcome | None:
    """What followed a signal on day number ``day``; None before the first horizon has passed."""
    passed = [horizon for horizon in HORIZONS_DAYS if day + horizon < len(closes)]
    if not passed:
        return None
    after = closes[day : day + passed[-1] + 1]
    one_day, week, month = (_return(after, horizon) if horizon in passed else None for horizon in HORIZONS_DAYS)
    over = MONTH_DAYS in passed
    return Outcome(
        return_1d=one_day,
        return_1w=week,
        return_1m=month,
        success=None if month is None else direction * month > 0,
        max_return=_highest_return(after) if over else None,
        max_drawdown=_deepest_fall(after) if over else None,
        last_day=day + passed[-1],
    )


def _return(closes: Series, days: int) -> Decimal | None:
    return _change(float(closes[0]), float(closes[days]))


def _highest_return(closes: Series) -> Decimal | None:
    """The best that a buyer at the first close could have sold at, even if that was a loss."""
    return _change(float(closes[0]), float(closes[1:].max()))


def _deepest_fall(closes: Series) -> Decimal | None:
    """The largest fall from a peak to a later close; zero when the closes never fell."""
    peaks = np.maximum.accumulate(closes)
    if peaks[0] <= 0:
        return None
    return _fraction(float((closes / peaks - 1).min()))


def _change(base: float, price: float) -> Decimal | None:
    return _fraction(price / base - 1) if base > 0 else None


def _fraction(value: float) -> Decimal | None:
    # Adding zero turns the minus zero that rounding leaves behind into zero.
    return round(Decimal(value), DECIMALS) + 0 if abs(value) < LARGEST_FRACTION else None
