"""The indicators of a symbol, ready to be drawn."""

from bisect import bisect_left
from datetime import date

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.market.indicators import TIMEFRAME, Indicators, Series, indicators
from app.market.prices import AdjustedCloses, adjusted_closes
from app.market.requests import DaysInQuery, Db, SymbolInPath
from app.problems import FAILURES, UnknownSymbol, documented

VALUE_DECIMALS = 6

router = APIRouter(prefix="/api/market", tags=["analysis"], responses=FAILURES)

Values = list[float | None]


class Analysis(BaseModel):
    """Series of equal length, one value per trading day; null where too few days came before."""

    symbol: str = Field(examples=["AAPL"])
    timeframe: str = Field(examples=[TIMEFRAME])
    dates: list[date]
    close: Values = Field(description="Adjusted for splits and dividends where the source gave it; as all that follows")
    ma20: Values = Field(description="Moving average of 20 trading days")
    ma50: Values
    ma200: Values
    rsi14: Values = Field(description="Relative strength index of 14 days, after Wilder; 0 to 100")
    bollinger_upper: Values = Field(description="20-day moving average plus 2 standard deviations")
    bollinger_middle: Values
    bollinger_lower: Values


@router.get("/analysis/{symbol}", responses=documented(UnknownSymbol("XYZ")))
def analysis(db: Db, symbol: SymbolInPath, days: DaysInQuery) -> Analysis:
    """Moving averages, RSI and Bollinger bands of a symbol's daily closes.

    A value depends on all days before it, never on the range that is asked for.
    """
    # From the very first day: Wilder's average forgets no day entirely.
    prices = adjusted_closes(db, symbol, days.end)
    first = bisect_left(prices.dates, days.start) if days.start else 0
    return _analysis(symbol, prices, indicators(prices.closes), first)


def _analysis(symbol: str, prices: AdjustedCloses, series: Indicators, first: int) -> Analysis:
    return Analysis(
        symbol=symbol,
        timeframe=TIMEFRAME,
        dates=prices.dates[first:],
        **{name: _values(values[first:]) for name, values in vars(series).items()},
    )


def _values(series: Series) -> Values:
    return [None if np.isnan(value) else round(value, VALUE_DECIMALS) for value in series.tolist()]
