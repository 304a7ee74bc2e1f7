"""When the market of the generated world is open."""

from datetime import date
from typing import Final

import numpy as np

from app.market.generate.draws import Ints

OPEN_S: Final = (14 * 60 + 30) * 60
CLOSE_S: Final = 21 * 3600
"""Seconds after midnight UTC, the same all year round: summer time would add nothing a database can feel."""

FIXED: Final = ("01-01", "06-19", "07-04", "12-25")
FLOATING: Final = (("01", 2, "Mon"), ("02", 2, "Mon"), ("09", 0, "Mon"), ("11", 3, "Thu"))
"""Month, how many such weekdays of it come before, weekday."""


def day_number(day: date) -> int:
    """Days since 1970."""
    return int(np.datetime64(day, "D").astype(np.int64))


def trading_days(first: date, last: date) -> Ints:
    """The market's days from ``first`` to ``last``, both included, as days since 1970."""
    days = np.arange(np.datetime64(first, "D"), np.datetime64(last, "D") + 1)
    closed = np.concatenate([_holidays(year) for year in range(first.year, last.year + 1)])
    return days[np.is_busday(days, holidays=closed)].astype(np.int64)


def _holidays(year: int) -> np.typing.NDArray[np.datetime64]:
    fixed = [np.datetime64(f"{year}-{day}") for day in FIXED]
    floating = [
        np.busday_offset(f"{year}-{month}", before, roll="forward", weekmask=weekday)
        for month, before, weekday in FLOATING
    ]
    last_monday_of_may = np.busday_offset(f"{year}-06", -1, roll="forward", weekmask="Mon")
    return np.array([*fixed, *floating, last_monday_of_may], dtype="datetime64[D]")
