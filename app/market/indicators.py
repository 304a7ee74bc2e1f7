"""What a series of closes says: moving averages, RSI, Bollinger bands, and the days on which a signal begins.

Pure: arrays in, values out. Closes are adjusted ones, oldest first; a raw close has a cliff at every split. Nothing
here looks ahead: what is said of a day depends on that day and those before it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
import talib
from numpy.typing import NDArray

Series: TypeAlias = NDArray[np.float64]
Days: TypeAlias = NDArray[np.bool_]

TIMEFRAME: Final = "1d"

RSI_WINDOW_DAYS: Final = 14
RSI_OVERBOUGHT: Final = 70.0
RSI_OVERSOLD: Final = 30.0
BOLLINGER_WINDOW_DAYS: Final = 20
BOLLINGER_DEVIATIONS: Final = 2.0

ROUNDING_NOISE: Final = 1e-10
"""Relative difference that two averages of equal closes may show; TA-Lib keeps running sums."""
FLAT_BAND: Final = 1e-5
"""Relative width up to which a band is a halted share and rounding noise, not a band that could be touched."""


class Direction(IntEnum):
    """Where a signal expects the price to go."""

    FALL = -1
    RISE = 1


@dataclass(frozen=True)
class Indicators:
    """The indicator series of one symbol, as long as its closes; NaN where not yet defined."""

    close: Series
    ma20: Series
    ma50: Series
    ma200: Series
    rsi14: Series
    bollinger_upper: Series
    bollinger_middle: Series
    bollinger_lower: Series


@dataclass(frozen=True)
class SignalType:
    """A condition on the indicators, and what it is taken to announce."""

    direction: Direction
    description: str
    holds: Callable[[Indicators], Days]
    """On which days the condition holds."""
    value: Callable[[Indicators], Series]
    """The indicator that the signal is about; where it is not defined, the condition is neither true nor false."""


@dataclass(frozen=True)
class Detected:
    """A signal that begins on day number ``day`` of the series."""

    day: int
    signal_type: str
    price: float
    indicator_value: float


def indicators(closes: Series) -> Indicators:
    """All indicator series of these closes."""
    upper, middle, lower = talib.BBANDS(
        closes, timeperiod=BOLLINGER_WINDOW_DAYS, nbdevup=BOLLINGER_DEVIATIONS, nbdevdn=BOLLINGER_DEVIATIONS
    )
    return Indicators(
        close=closes,
        ma20=talib.SMA(closes, timeperiod=20),
        ma50=talib.SMA(closes, timeperiod=50),
        ma200=talib.SMA(closes, timeperiod=200),
        rsi14=talib.RSI(closes, timeperiod=RSI_WINDOW_DAYS),
        bollinger_upper=upper,
        bollinger_middle=middle,
        bollinger_lower=lower,
    )


def detect(closes: Series) -> list[Detected]:
    """Every signal of the series, by day and then in the order of :data:`SIGNAL_TYPES`."""
    series = indicators(closes)
    found = [signal for name, kind in SIGNAL_TYPES.items() for signal in _signals(name, kind, series)]
    return sorted(found, key=lambda signal: signal.day)


def _signals(name: str, kind: SignalType, series: Indicators) -> list[Detected]:
    values = kind.value(series)
    days = np.flatnonzero(_begins(kind.holds(series), ~np.isnan(values)))
    return [Detected(int(day), name, float(series.close[day]), float(values[day])) for day in days]


def _begins(holds: Days, defined: Days) -> Days:
    """Days on which a condition holds that was known not to hold on the day before."""
    begins = np.zeros_like(holds)
    begins[1:] = holds[1:] & defined[1:] & ~holds[:-1] & defined[:-1]
    return begins


def _above(one: Series, other: Series) -> Days:
    return one - other > ROUNDING_NOISE * np.abs(other)


def _touchable(series: Indicators) -> Days:
    width = series.bollinger_upper - series.bollinger_lower
    return width > FLAT_BAND * np.abs(series.bollinger_middle)


def _crossing(days: int, average: Callable[[Indicators], Series]) -> dict[str, SignalType]:
    return {
        f"ma{days}_cross_up": SignalType(
            Direction.RISE,
            f"The close rises above its {days}-day moving average",
            lambda series: _above(series.close, average(series)),
            average,
        ),
        f"ma{days}_cross_down": SignalType(
            Direction.FALL,
            f"The close falls below its {days}-day moving average",
            lambda series: _above(average(series), series.close),
            average,
        ),
    }


SIGNAL_TYPES: Final[Mapping[str, SignalType]] = MappingProxyType(
    {
        **_crossing(20, lambda series: series.ma20),
        **_crossing(50, lambda series: series.ma50),
        **_crossing(200, lambda series: series.ma200),
        "golden_cross": SignalType(
            Direction.RISE,
            "The 50-day moving average rises above the 200-day one",
            lambda series: _above(series.ma50, series.ma200),
            lambda series: series.ma200,
        ),
        "dead_cross": SignalType(
            Direction.FALL,
            "The 50-day moving average falls below the 200-day one",
            lambda series: _above(series.ma200, series.ma50),
            lambda series: series.ma200,
        ),
        "rsi_overbought": SignalType(
            Direction.FALL,
            "The 14-day RSI rises above 70",
            lambda series: series.rsi14 > RSI_OVERBOUGHT,
            lambda series: series.rsi14,
        ),
        "rsi_oversold": SignalType(
            Direction.RISE,
            "The 14-day RSI falls below 30",
            lambda series: series.rsi14 < RSI_OVERSOLD,
            lambda series: series.rsi14,
        ),
        "bollinger_upper_touch": SignalType(
            Direction.FALL,
            "The close reaches the upper Bollinger band (20 days, 2 deviations)",
            lambda series: (series.close >= series.bollinger_upper) & _touchable(series),
            lambda series: series.bollinger_upper,
        ),
        "bollinger_lower_touch": SignalType(
            Direction.RISE,
            "The close reaches the lower Bollinger band (20 days, 2 deviations)",
            lambda series: (series.close <= series.bollinger_lower) & _touchable(series),
            lambda series: series.bollinger_lower,
        ),
    }
)
"""Every kind of signal, by the name under which it is stored."""
