"""Signals and outcomes follow the prices, on every database."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal

import pytest
from bokeh_sampledata import stocks
from sqlalchemy import func, insert, make_url, select, update

from app.common.infra.database.config.database_config import Base, make_engine
from app.market.indicators import SIGNAL_TYPES, detect
from app.market.models import DailyPrice, SignalOutcome, Symbol, TechnicalSignal
from app.market.prices import adjusted_closes
from app.market.refresh import SignalCounts, compute_signals


@pytest.fixture
def engine(database_url):
    made = make_engine(make_url(database_url))
    Base.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def sqlite_engine(sqlite_url):
    made = make_engine(make_url(sqlite_url))
    Base.metadata.create_all(made)
    yield made
    made.dispose()


def add_prices(engine, symbol, days, adjusted=True):
    """The days of this slice are in the table, and so is the symbol."""
    series = getattr(stocks, symbol)
    rows = [
        {
            "symbol": symbol,
            "date": date.fromisoformat(series["date"][day]),
            **{name: round(Decimal(series[name][day]), 6) for name in ("open", "high", "low", "close")},
            "adj_close": round(Decimal(series["adj_close"][day]), 6) if adjusted else None,
            "volume": series["volume"][day],
        }
        for day in range(len(series["date"]))[days]
    ]
    with engine.begin() as connection:
        if connection.scalar(select(Symbol.symbol).where(Symbol.symbol == symbol)) is None:
            connection.execute(insert(Symbol).values(symbol=symbol))
        connection.execute(insert(DailyPrice), rows)


def stored(engine):
    """Signals with their outcomes, without the keys."""
    signal = [TechnicalSignal.symbol, TechnicalSignal.signal_type, TechnicalSignal.triggered_at, TechnicalSignal.price]
    outcome = [column for column in SignalOutcome.__table__.c if column.name not in ("id", "signal_id")]
    query = select(*signal, *outcome).outerjoin(SignalOutcome, SignalOutcome.signal_id == TechnicalSignal.id)
    with engine.connect() as connection:
        return sorted(map(tuple, connection.execute(query)), key=lambda row: row[:3])


def rows_in(engine, model):
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(model))


def test_every_signal_is_stored_with_its_outcome_and_a_second_run_adds_nothing(engine):
    add_prices(engine, "AAPL", slice(0, 400))
    counts = compute_signals(engine)
    assert counts == SignalCounts(rows_in(engine, TechnicalSignal), rows_in(engine, SignalOutcome))
    with engine.connect() as connection:
        assert counts.signals == len(detect(adjusted_closes(connection, "AAPL").closes)) > 50
    before = stored(engine)
    assert compute_signals(engine) == SignalCounts(0, 0)
    assert stored(engine) == before


def test_prices_that_arrive_day_by_day_lead_to_what_all_at_once_leads_to(engine, tmp_path):
    add_prices(engine, "AAPL", slice(0, 250))
    compute_signals(engine)
    for first, last in [(250, 251), (251, 254), (254, 280), (280, 330)]:
        add_prices(engine, "AAPL", slice(first, last))
        compute_signals(engine)
    at_once = make_engine(make_url(f"sqlite:///{tmp_path}/at_once.sqlite3"))
    Base.metadata.create_all(at_once)
    add_prices(at_once, "AAPL", slice(0, 330))
    compute_signals(at_once)
    assert stored(engine) == stored(at_once)
    at_once.dispose()


def test_two_refreshes_at_once_store_each_signal_once(engine, database_url):
    add_prices(engine, "AAPL", slice(0, 600))
    add_prices(engine, "MSFT", slice(0, 600))
    others = [make_engine(make_url(database_url)) for _ in range(3)]
    with ThreadPoolExecutor(len(others)) as pool:
        counts = list(pool.map(compute_signals, others))
    for other in others:
        other.dispose()
    assert sum(count.signals for count in counts) == rows_in(engine, TechnicalSignal) > 100
    assert sum(count.outcomes for count in counts) == rows_in(engine, SignalOutcome)
    assert compute_signals(engine) == SignalCounts(0, 0)


def test_only_the_symbols_asked_for_are_refreshed(sqlite_engine):
    add_prices(sqlite_engine, "AAPL", slice(0, 300))
    add_prices(sqlite_engine, "IBM", slice(0, 300))
    compute_signals(sqlite_engine, ["IBM"])
    assert {symbol for symbol, *_ in stored(sqlite_engine)} == {"IBM"}


def test_a_symbol_with_few_prices_or_none_is_no_error(sqlite_engine):
    add_prices(sqlite_engine, "FB", slice(0, 5))
    assert compute_signals(sqlite_engine, ["FB", "NONE"]) == SignalCounts(0, 0)


def test_closes_as_traded_serve_where_there_are_no_adjusted_ones(sqlite_engine):
    add_prices(sqlite_engine, "IBM", slice(0, 10), adjusted=False)
    add_prices(sqlite_engine, "IBM", slice(10, 20))
    with sqlite_engine.connect() as connection:
        closes = adjusted_closes(connection, "IBM").closes.tolist()
    rounded = [round(value, 6) for value in stocks.IBM["close"][:10] + stocks.IBM["adj_close"][10:20]]
    assert closes == rounded


def test_a_signal_of_another_timeframe_or_day_is_left_alone(sqlite_engine):
    add_prices(sqlite_engine, "IBM", slice(0, 100))
    compute_signals(sqlite_engine)
    with sqlite_engine.begin() as connection:
        connection.execute(SignalOutcome.__table__.delete())
        connection.execute(update(TechnicalSignal).values(timeframe="1h"))
    counts = compute_signals(sqlite_engine)
    assert counts.signals == counts.outcomes == rows_in(sqlite_engine, TechnicalSignal) / 2


def test_stored_returns_follow_the_stored_prices(sqlite_engine):
    add_prices(sqlite_engine, "MSFT", slice(0, 500))
    compute_signals(sqlite_engine)
    with sqlite_engine.connect() as connection:
        prices = adjusted_closes(connection, "MSFT")
    day_of = {day: number for number, day in enumerate(prices.dates)}
    for _, kind, at, price, *returns, success, _, _, evaluated_at in stored(sqlite_engine):
        day = day_of[at.date()]
        assert float(price) == prices.closes[day]
        for days, value in zip((1, 5, 21), returns, strict=True):
            if day + days < len(prices.closes):
                assert float(value) == pytest.approx(prices.closes[day + days] / prices.closes[day] - 1, abs=1e-6)
            else:
                assert value is None
        assert evaluated_at > at
        assert success is (None if returns[-1] is None else returns[-1] * SIGNAL_TYPES[kind].direction > 0)


def test_progress_tells_each_symbol_and_the_end(sqlite_engine):
    told = []
    add_prices(sqlite_engine, "FB", slice(0, 30))
    add_prices(sqlite_engine, "IBM", slice(0, 30))
    compute_signals(sqlite_engine, progress=lambda step, done, total: told.append((step, done, total)))
    assert told == [("signals", 0, 2), ("signals", 1, 2), ("signals", 2, 2)]
