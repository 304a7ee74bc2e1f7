"""Signals and what came of them: every one different by construction, however many are asked for.

A day has a fixed set of signals that a symbol can show: each type once a day, on each full hour and each quarter of an
hour. The day's signals are shared out among the symbols, and a symbol that gets ``k`` of them shows the first ``k`` of
one of many shuffled orders of that set. So none can occur twice, and nothing has to be drawn again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.market.generate.draws import (
    RATIO_DIGITS,
    US_PER_S,
    Floats,
    Ints,
    Subject,
    cents,
    decimals,
    fill,
    instants,
    pick,
    stream,
    whole,
)
from app.market.generate.market import Market
from app.market.generate.plan import BadPlan
from app.market.generate.trading_days import CLOSE_S, OPEN_S
from app.market.indicators import SIGNAL_TYPES
from app.market.outcomes import HORIZONS_DAYS, MONTH_DAYS

ROWS_PER_BLOCK: Final = 40_000
DAY_US: Final = 86_400 * US_PER_S
YEARLY_GROWTH: Final = 0.04

TYPE_WEIGHTS: Final = {
    "ma20_cross_up": 18,
    "ma20_cross_down": 18,
    "bollinger_upper_touch": 13,
    "bollinger_lower_touch": 12,
    "ma50_cross_up": 9,
    "ma50_cross_down": 9,
    "rsi_overbought": 7,
    "rsi_oversold": 6,
    "ma200_cross_up": 3,
    "ma200_cross_down": 3,
    "golden_cross": 1,
    "dead_cross": 1,
}
"""How often each type occurs; the order is part of what a seed means."""

TIMEFRAMES: Final = ("1d", "1h", "15m")
TIMEFRAME_WEIGHTS: Final = (0.9, 0.07, 0.03)
GRID_S: Final = (0, 3600, 900)
ORDERS: Final = 1009
"""Shuffled orders of a day's possible signals; prime, for no reason but to share no period with anything."""


def _slots() -> tuple[Ints, Ints]:
    """Timeframe and second of the day of each moment at which a signal can occur.

    A daily signal is stamped with its session's midnight, the others with the end of their bar.
    """
    timeframe, second = [0], [0]
    for number, grid_s in enumerate(GRID_S[1:], start=1):
        ends = range((OPEN_S // grid_s + 1) * grid_s, CLOSE_S + 1, grid_s)
        timeframe += [number] * len(ends)
        second += ends
    return np.array(timeframe), np.array(second)


SLOT_TIMEFRAME, SLOT_S = _slots()
SLOTS: Final = len(SLOT_S)
POSSIBLE: Final = len(TYPE_WEIGHTS) * SLOTS
"""Different signals that one symbol can show on one day."""
MOST_PER_SYMBOL_AND_DAY: Final = POSSIBLE - 1  # one less, so that rounding up a share cannot ask for more

DIRECTIONS: Final = np.array([int(SIGNAL_TYPES[name].direction) for name in TYPE_WEIGHTS])


@dataclass(frozen=True)
class SignalBook:
    """How many signals there are on each day, and in what order they are chosen."""

    market: Market

    @cached_property
    def per_day(self) -> Ints:
        """Signals of each trading day.

        Raises:
            BadPlan: there cannot be so many different ones.
        """
        plan, days = self.market.plan, len(self.market.days)
        per_day = MOST_PER_SYMBOL_AND_DAY * plan.symbols
        if plan.signals > per_day * days:
            raise BadPlan(
                f"{plan.signals} different signals do not fit into {plan.symbols} symbols and {plan.years} years, "
                f"at most {per_day * days} do: ask for fewer signals, or for more symbols or years"
            )
        weights = (0.5 + 0.5 * self.market.excitement) * (1 + YEARLY_GROWTH) ** (np.arange(days) / 252)
        return whole(fill(weights, plan.signals, per_day), plan.signals, 0.5)

    @cached_property
    def day_edges(self) -> NDArray[np.int64]:
        """The first day of each block, and after the last one the number of days."""
        after = np.cumsum(self.per_day)
        starts = np.arange(0, self.market.plan.signals, ROWS_PER_BLOCK)
        first = np.unique(np.searchsorted(after, starts, side="right"))
        return np.append(first, len(self.market.days))

    @cached_property
    def block_ends(self) -> Ints:
        """How many rows of ``technical_signals`` there are after each block."""
        return np.asarray(np.cumsum(self.per_day)[self.day_edges[1:] - 1])

    @cached_property
    def outcomes(self) -> int:
        """Rows of ``signal_outcomes``: of the last day's signals nothing is known yet."""
        return self.market.plan.signals - int(self.per_day[-1])

    @cached_property
    def orders(self) -> Ints:
        """Orders of the numbers below POSSIBLE, the likely ones mostly first (Efraimidis and Spirakis 2006)."""
        slots = np.array(TIMEFRAME_WEIGHTS)[SLOT_TIMEFRAME] / np.bincount(SLOT_TIMEFRAME)[SLOT_TIMEFRAME]
        weights = np.outer(list(TYPE_WEIGHTS.values()), slots).ravel()
        chance = stream(self.market.plan.seed, Subject.SIGNAL_ORDERS).random((ORDERS, POSSIBLE))
        return np.argsort(-np.log1p(-chance) / weights, axis=1, kind="stable")


@dataclass(frozen=True)
class Drawn:
    """Signals as numbers, one element per signal."""

    day: Ints
    symbol: Ints
    kind: Ints
    slot: Ints
    price: Ints

    def ordered(self, order: Ints) -> "Drawn":
        return Drawn(self.day[order], self.symbol[order], self.kind[order], self.slot[order], self.price[order])


def signal_rows(book: SignalBook, block: int) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """One block of ``technical_signals``, oldest first, and of the ``signal_outcomes`` of the same signals."""
    rng = stream(book.market.plan.seed, Subject.SIGNALS, block)
    drawn = _draw(book, rng, block)
    number = np.arange(1, len(drawn.day) + 1) + (int(book.block_ends[block - 1]) if block else 0)
    market = book.market
    signals = {
        "id": pa.array(number),
        "symbol": market.tickers.take(pa.array(drawn.symbol)),
        "signal_type": pa.array(list(TYPE_WEIGHTS)).take(pa.array(drawn.kind)),
        "timeframe": pa.array(TIMEFRAMES).take(pa.array(SLOT_TIMEFRAME[drawn.slot])),
        "triggered_at": instants(market.days[drawn.day] * DAY_US + SLOT_S[drawn.slot] * US_PER_S),
        "price": cents(drawn.price),
        "indicator_value": decimals(_indicator_values(rng, drawn)),
    }
    return pa.record_batch(signals), outcome_rows(market, number, drawn)


def _draw(book: SignalBook, rng: np.random.Generator, block: int) -> Drawn:
    days = range(int(book.day_edges[block]), int(book.day_edges[block + 1]))
    counts = np.stack([_per_symbol(book, rng, day) for day in days])
    order = pick(rng, ORDERS, counts.size)
    each = counts.ravel()
    cell = np.repeat(np.arange(counts.size), each)
    rank = np.arange(len(cell)) - np.repeat(np.cumsum(each) - each, each)
    chosen = book.orders[order[cell], rank]
    day, symbol = cell // counts.shape[1] + days.start, cell % counts.shape[1]
    slot = chosen % SLOTS
    drawn = Drawn(day, symbol, chosen // SLOTS, slot, _prices(book.market, rng, day, symbol, slot))
    return drawn.ordered(np.lexsort((SLOT_S[slot], day)))


def _per_symbol(book: SignalBook, rng: np.random.Generator, day: int) -> Ints:
    """How many signals each symbol shows on this day."""
    popularity, total = book.market.popularity, int(book.per_day[day])
    shares = fill(popularity, total, MOST_PER_SYMBOL_AND_DAY)
    order = np.argsort(rng.random(len(shares)))  # else neighbours would take turns all year long
    counts = np.empty(len(shares), dtype=np.int64)
    counts[order] = whole(shares[order], total, float(rng.random()))
    return counts


def _prices(market: Market, rng: np.random.Generator, day: Ints, symbol: Ints, slot: Ints) -> Ints:
    """The day's close for a daily signal, for the others a price that the day saw; in cents."""
    low, high = market.lows[day, symbol].astype(np.int64), market.highs[day, symbol]
    within = low + (rng.random(len(day)) * (high - low + 1)).astype(np.int64)
    return np.where(SLOT_TIMEFRAME[slot] == 0, market.closes[day, symbol], within)


def _indicator_values(rng: np.random.Generator, drawn: Drawn) -> Ints:
    """In millionths: an RSI just over 70 or under 30, or else a line that the price has just crossed or touched."""
    beyond = np.abs(rng.standard_normal(len(drawn.kind)))
    names = list(TYPE_WEIGHTS)
    side = np.array([-1 if name.endswith(("_up", "_upper_touch", "golden_cross")) else 1 for name in names])[drawn.kind]
    values = drawn.price / 100 * (1 + side * np.minimum(0.006 * beyond, 0.2))
    values = np.where(drawn.kind == names.index("rsi_overbought"), np.minimum(70.1 + 3 * beyond, 99), values)
    values = np.where(drawn.kind == names.index("rsi_oversold"), np.maximum(29.9 - 3 * beyond, 1), values)
    return np.rint(values * 1e6).astype(np.int64)


def outcome_rows(market: Market, number: Ints, drawn: Drawn) -> pa.RecordBatch:
    """What the closes after each signal made of it, by the rules of :mod:`app.market.outcomes`."""
    known = drawn.day + 1 < len(market.days)
    number, drawn = number[known], drawn.ordered(np.flatnonzero(known))
    ahead = len(market.days) - 1 - drawn.day
    path = _path(market, drawn)
    month_over = ahead >= MONTH_DAYS
    month = _millionths(path[:, MONTH_DAYS] / path[:, 0] - 1)
    success = month * DIRECTIONS[drawn.kind] > 0
    best = _millionths(path[:, 1:].max(axis=1) / path[:, 0] - 1)
    worst = _millionths((path / np.maximum.accumulate(path, axis=1) - 1).min(axis=1))
    columns = {
        "id": pa.array(number),
        "signal_id": pa.array(number),
        **dict(_returns(path, ahead)),
        "success": pa.array(success, mask=~month_over),
        "max_return": decimals(best, RATIO_DIGITS, ~month_over),
        "max_drawdown": decimals(worst, RATIO_DIGITS, ~month_over),
        "evaluated_at": instants(market.days[drawn.day + _used(ahead)] * DAY_US),
    }
    return pa.record_batch(columns)


def _path(market: Market, drawn: Drawn) -> Floats:
    """The signal's price and the closes of the month after it; beyond the last day, the last close again."""
    days = drawn.day[:, None] + np.arange(1, MONTH_DAYS + 1)
    after = market.closes[np.minimum(days, len(market.days) - 1), drawn.symbol[:, None]]
    return np.concatenate([drawn.price[:, None], after], axis=1) / 100


def _returns(path: Floats, ahead: Ints) -> Iterator[tuple[str, pa.Array]]:
    for name, horizon in zip(("return_1d", "return_1w", "return_1m"), HORIZONS_DAYS, strict=True):
        yield name, decimals(_millionths(path[:, horizon] / path[:, 0] - 1), RATIO_DIGITS, ahead < horizon)


def _used(ahead: Ints) -> Ints:
    """Days after the signal up to the last horizon that has passed."""
    horizons = np.array(HORIZONS_DAYS)
    return horizons[np.searchsorted(horizons, ahead, side="right") - 1]


def _millionths(ratios: Floats) -> Ints:
    return np.rint(ratios * 10**6).astype(np.int64)
