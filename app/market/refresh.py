"""Signals and outcomes, brought up to date with the prices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, select, update

from app.common.infra.database.config.database_config import Base
from app.locks import exclusive
from app.market.bulk_insert import Row, insert_new
from app.market.indicators import SIGNAL_TYPES, TIMEFRAME, Detected, detect
from app.market.models import SignalOutcome, Symbol, TechnicalSignal
from app.market.outcomes import Outcome, outcome
from app.market.prices import AdjustedCloses, adjusted_closes
from app.progress import Progress, silent

SIGNALS = Base.metadata.tables[TechnicalSignal.__tablename__]
OUTCOMES = Base.metadata.tables[SignalOutcome.__tablename__]


@dataclass(frozen=True)
class SignalCounts:
    """What a refresh wrote: signals that are new, outcomes that are new or know more than before."""

    signals: int = 0
    outcomes: int = 0

    def __add__(self, other: "SignalCounts") -> "SignalCounts":
        return SignalCounts(self.signals + other.signals, self.outcomes + other.outcomes)


def compute_signals(engine: Engine, symbols: Sequence[str] | None = None, progress: Progress = silent) -> SignalCounts:
    """Every signal in the prices of these symbols (default: all) is stored, with all that is known of its outcome.

    A second run adds nothing; after new prices it adds what they bring. What is stored stays, even when prices were
    corrected since. One transaction and one symbol's prices in memory at a time.
    """
    chosen = _all_symbols(engine) if symbols is None else list(symbols)
    written = SignalCounts()
    for done, symbol in enumerate(chosen):
        progress("signals", done, len(chosen))
        written += _refresh(engine, symbol)
    progress("signals", len(chosen), len(chosen))
    return written


def _all_symbols(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return sorted(connection.scalars(select(Symbol.symbol)))


def _refresh(engine: Engine, symbol: str) -> SignalCounts:
    # Two at once would find the same signals missing, and on MariaDB run into a deadlock when they add them.
    with exclusive(engine, f"finstage-signals-{symbol}") as connection:
        prices = adjusted_closes(connection, symbol)
        return SignalCounts(_add_signals(connection, symbol, prices), _add_outcomes(connection, symbol, prices))


def _add_signals(connection: Connection, symbol: str, prices: AdjustedCloses) -> int:
    stored = select(TechnicalSignal.signal_type, TechnicalSignal.triggered_at).where(
        TechnicalSignal.symbol == symbol, TechnicalSignal.timeframe == TIMEFRAME
    )
    known = {(kind, at) for kind, at in connection.execute(stored)}
    rows = [_signal_row(symbol, prices, found) for found in detect(prices.closes)]
    return insert_new(connection, SIGNALS, [r for r in rows if (r["signal_type"], r["triggered_at"]) not in known])


def _signal_row(symbol: str, prices: AdjustedCloses, found: Detected) -> Row:
    return {
        "symbol": symbol,
        "signal_type": found.signal_type,
        "timeframe": TIMEFRAME,
        "triggered_at": midnight(prices.dates[found.day]),
        "price": round(Decimal(found.price), 6),
        "indicator_value": round(Decimal(found.indicator_value), 6),
    }


def _add_outcomes(connection: Connection, symbol: str, prices: AdjustedCloses) -> int:
    new: list[Row] = []
    grown: list[Row] = []
    for signal_id, evaluated_at, known in _due(connection, symbol, prices):
        row = _outcome_row(prices, known)
        if evaluated_at is None:
            new.append({"signal_id": signal_id, **row})
        elif row["evaluated_at"] > evaluated_at:
            grown.append({"of_signal": signal_id, **row})
    if grown:
        connection.execute(update(OUTCOMES).where(OUTCOMES.c.signal_id == bindparam("of_signal")), grown)
    return insert_new(connection, OUTCOMES, new) + len(grown)


def _due(connection: Connection, symbol: str, prices: AdjustedCloses) -> Iterator[tuple[int, datetime | None, Outcome]]:
    """Signals whose outcome is missing or unfinished: id, what it knew last, and what the prices say now."""
    days = {midnight(session): day for day, session in enumerate(prices.dates)}
    unfinished = (
        select(
            TechnicalSignal.id, TechnicalSignal.signal_type, TechnicalSignal.triggered_at, SignalOutcome.evaluated_at
        )
        .outerjoin(SignalOutcome, SignalOutcome.signal_id == TechnicalSignal.id)
        .where(TechnicalSignal.symbol == symbol, TechnicalSignal.timeframe == TIMEFRAME)
        .where(TechnicalSignal.signal_type.in_(SIGNAL_TYPES), SignalOutcome.return_1m.is_(None))
        .order_by(TechnicalSignal.triggered_at, TechnicalSignal.id)
    )
    for signal_id, signal_type, triggered_at, evaluated_at in connection.execute(unfinished):
        day = days.get(triggered_at)
        if day is None:
            continue
        now_known = outcome(prices.closes, day, SIGNAL_TYPES[signal_type].direction)
        if now_known is not None:
            yield signal_id, evaluated_at, now_known


def _outcome_row(prices: AdjustedCloses, known: Outcome) -> dict[str, Any]:
    return {
        "return_1d": known.return_1d,
        "return_1w": known.return_1w,
        "return_1m": known.return_1m,
        "success": known.success,
        "max_return": known.max_return,
        "max_drawdown": known.max_drawdown,
        "evaluated_at": midnight(prices.dates[known.last_day]),
    }


def midnight(session: date) -> datetime:
    """The instant that labels a trading day's data."""
    return datetime.combine(session, time.min, UTC)
