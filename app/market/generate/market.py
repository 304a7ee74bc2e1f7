"""Prices of symbols that do not exist: random walks with a common factor and quiet and wild times.

Volatility follows GARCH(1,1) (Bollerslev 1986), for the market and for each symbol. A weak pull towards a slowly
growing level keeps twenty years of it within the prices that one sees on a screen. Nothing is split and nobody pays a
dividend: the adjusted close is the close.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.market.generate.draws import Floats, Ints, Subject, cents, stream, zipf
from app.market.generate.plan import Plan
from app.market.generate.trading_days import trading_days

Cents = NDArray[np.int32]

ROWS_PER_BLOCK: Final = 50_000
POPULARITY_EXPONENT: Final = 1.0
MEDIAN_PRICE, PRICE_SPREAD = 60.0, 0.8
MARKET_VOLATILITY, SYMBOL_VOLATILITY = 0.009, 0.016  # of a day's log return
SHOCK, MEMORY = 0.08, 0.90  # GARCH's alpha and beta
PULL: Final = 0.0005  # per day: half of a deviation is gone after five and a half years
GROWTH: Final = 0.06 / 252
GAP, REACH = 0.004, 0.007  # typical move overnight, and beyond the day's open and close
RANGE_DAYS: Final = 256  # days whose open, high and low come from one stream
LEAST_CENTS, MOST_CENTS = 5, 2_000_000_000
MEDIAN_VOLUME, POPULAR_VOLUME = 200_000.0, 40_000_000.0


@dataclass(frozen=True)
class Market:
    """What every symbol cost on every trading day, in whole cents; arrays are (day, symbol)."""

    plan: Plan
    days: Ints
    opens: Cents
    highs: Cents
    lows: Cents
    closes: Cents

    @cached_property
    def tickers(self) -> pa.Array:
        return pa.array([self.plan.ticker(number) for number in range(1, self.plan.symbols + 1)])

    @cached_property
    def popularity(self) -> Floats:
        """How likely each symbol is to be written about; the popular ones are spread over the alphabet."""
        order = np.argsort(stream(self.plan.seed, Subject.POPULARITY).random(self.plan.symbols))
        return zipf(self.plan.symbols, POPULARITY_EXPONENT)[order]

    @cached_property
    def excitement(self) -> Floats:
        """How far the median symbol moved on each day, as a multiple of what it usually does."""
        moved = np.zeros(len(self.days))
        for first in range(1, len(self.days), RANGE_DAYS):
            now = self.closes[first : first + RANGE_DAYS]
            before = self.closes[first - 1 : first - 1 + len(now)]
            moved[first : first + len(now)] = np.median(np.abs(now / before - 1), axis=1)
        return np.asarray(moved / max(float(moved.mean()), 1e-9))

    @property
    def days_per_block(self) -> int:
        return max(1, ROWS_PER_BLOCK // self.plan.symbols)


def make_market(plan: Plan) -> Market:
    """The whole market of a plan; 16 bytes per symbol and day stay in memory, twice that while it is made."""
    days = trading_days(plan.start, plan.end)
    closes = _in_cents(_walk(plan, len(days)))
    opens, highs, lows = (np.empty_like(closes) for _ in range(3))
    for first in range(0, len(days), RANGE_DAYS):
        part = slice(first, first + RANGE_DAYS)
        before = closes[np.maximum(np.arange(first - 1, min(first + RANGE_DAYS, len(days)) - 1), 0)]
        rng = stream(plan.seed, Subject.DAY_RANGE, first // RANGE_DAYS)
        opens[part], highs[part], lows[part] = _ranges(rng, before, closes[part])
    return Market(plan, days, opens, highs, lows, closes)


def _walk(plan: Plan, days: int) -> Floats:
    """Logarithms of all closing prices."""
    rng = stream(plan.seed, Subject.WALK)
    level = np.log(MEDIAN_PRICE) + PRICE_SPREAD * rng.standard_normal(plan.symbols)
    usual = (SYMBOL_VOLATILITY * np.exp(0.3 * rng.standard_normal(plan.symbols))) ** 2
    beta = 0.6 + 0.8 * rng.random(plan.symbols)
    common = _common_moves(rng, days)
    path = rng.standard_normal((days, plan.symbols))
    variance, price = usual.copy(), level.copy()
    for day, moved in enumerate(common):
        own = np.sqrt(variance) * path[day]
        variance = (1 - SHOCK - MEMORY) * usual + SHOCK * own**2 + MEMORY * variance
        price += own + beta * moved - PULL * (price - level)
        level += GROWTH
        path[day] = price
    return path


def _common_moves(rng: np.random.Generator, days: int) -> list[float]:
    usual = variance = MARKET_VOLATILITY**2
    moves = []
    for shock in rng.standard_normal(days).tolist():
        move = variance**0.5 * shock
        variance = (1 - SHOCK - MEMORY) * usual + SHOCK * move**2 + MEMORY * variance
        moves.append(move)
    return moves


def _in_cents(logarithms: Floats) -> Cents:
    np.exp(logarithms, out=logarithms)
    logarithms *= 100
    return np.clip(np.rint(logarithms), LEAST_CENTS, MOST_CENTS).astype(np.int32)


def _ranges(rng: np.random.Generator, before: Cents, closes: Cents) -> tuple[Cents, Cents, Cents]:
    """Open, high and low of some days, given their closes and those of the days before."""
    opens = _in_cents(np.log(before / 100) + GAP * rng.standard_normal(closes.shape))
    above, below = REACH * np.abs(rng.standard_normal((2, *closes.shape)))
    top, bottom = np.maximum(opens, closes), np.minimum(opens, closes)
    highs = np.rint(top * (1 + above)).astype(np.int32)
    lows = np.maximum(np.rint(bottom * np.exp(-below)), 1).astype(np.int32)
    return opens, highs, lows


def symbol_rows(market: Market) -> pa.RecordBatch:
    """The rows of ``symbols``."""
    return pa.record_batch({"symbol": market.tickers})


def price_block_ends(market: Market) -> Ints:
    """How many rows of ``daily_prices`` there are after each block."""
    ends = np.arange(market.days_per_block, len(market.days) + market.days_per_block, market.days_per_block)
    return np.minimum(ends, len(market.days)) * market.plan.symbols


def price_rows(market: Market, block: int) -> pa.RecordBatch:
    """One block of ``daily_prices``, day after day as a market delivers them."""
    first = block * market.days_per_block
    part = slice(first, first + market.days_per_block)
    symbols, days = market.plan.symbols, market.days[part]
    count = len(days) * symbols
    return pa.record_batch(
        {
            "id": pa.array(np.arange(1, count + 1) + first * symbols),
            "symbol": market.tickers.take(pa.array(np.tile(np.arange(symbols), len(days)))),
            "date": pa.array(np.repeat(days, symbols).astype(np.int32)).cast(pa.date32()),
            **{name: cents(values[part].ravel()) for name, values in _amounts(market)},
            "adj_close": cents(market.closes[part].ravel()),
            "volume": pa.array(_volumes(market, block, part).ravel()),
        }
    )


def _amounts(market: Market) -> Iterator[tuple[str, Cents]]:
    yield "open", market.opens
    yield "high", market.highs
    yield "low", market.lows
    yield "close", market.closes


def _volumes(market: Market, block: int, part: slice) -> Ints:
    rng = stream(market.plan.seed, Subject.VOLUME, block)
    usual = MEDIAN_VOLUME + POPULAR_VOLUME * market.popularity
    wide = 1 + 20 * (market.highs[part] - market.lows[part]) / market.closes[part]
    chance = np.exp(0.5 * rng.standard_normal(wide.shape))
    return np.rint(usual * wide * chance).astype(np.int64)
