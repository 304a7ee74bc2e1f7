"""The sample prices: loaded once, completely, and never among somebody's own."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from bokeh_sampledata import stocks

from app import migrate
from app.common.infra.database.config.database_config import Base, make_engine
from app.market import sample
from app.market.ingest.prices import import_prices
from app.market.models import DailyPrice, Symbol

HEADER = "symbol,date,open,high,low,close,volume\n"


@pytest.fixture
def engine(sqlite_url: sa.URL) -> Iterator[sa.Engine]:
    made = make_engine(sqlite_url)
    migrate.upgrade(made)
    yield made
    made.dispose()


def counts(engine: sa.Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {
            name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for name, table in Base.metadata.tables.items()
        }


def test_the_sample_is_what_the_package_carries(engine: sa.Engine) -> None:
    assert sample.load_sample(engine)
    for symbol in sample.NAMES:
        series = SimpleNamespace(**getattr(stocks, symbol))
        query = sa.select(DailyPrice).where(DailyPrice.symbol == symbol).order_by(DailyPrice.date)
        with engine.connect() as connection:
            rows = connection.execute(query).all()
        assert [row.date for row in rows] == [date.fromisoformat(day) for day in series.date]
        assert [row.volume for row in rows] == series.volume
        for name in ("open", "high", "low", "close", "adj_close"):
            expected = [round(Decimal(str(value)), 6) for value in getattr(series, name)]
            assert [getattr(row, name) for row in rows] == expected


def test_a_second_load_changes_nothing(engine: sa.Engine) -> None:
    assert sample.load_sample(engine)
    after_one = counts(engine)
    assert after_one["daily_prices"] == sample.ROWS == 12_154
    assert after_one["symbols"] == 5
    assert after_one["technical_signals"] == after_one["signal_outcomes"] > 1000
    assert not sample.load_sample(engine)
    assert counts(engine) == after_one


def interrupt(at_step: str, at: int) -> sample.Progress:
    def listen(step: str, done: int, total: int | None) -> None:
        if step == at_step and done >= at:
            raise KeyboardInterrupt

    return listen


@pytest.mark.parametrize(("step", "at", "prices"), [("prices", 1, 0), ("signals", 3, 12_154), ("signals", 5, 12_154)])
def test_an_interrupted_load_is_completed_by_the_next(engine: sa.Engine, step: str, at: int, prices: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        sample.load_sample(engine, interrupt(step, at))
    assert counts(engine)["daily_prices"] == prices
    assert sample.load_sample(engine)
    complete = counts(engine)
    assert complete["daily_prices"] == 12_154
    assert complete["technical_signals"] == complete["signal_outcomes"] > 1000
    with engine.connect() as connection:
        found = connection.execute(sa.select(Symbol.symbol, Symbol.name)).all()
    assert {row.symbol: row.name for row in found} == sample.NAMES


@pytest.mark.parametrize(
    "line", ["TSLA,2012-05-18,1,1,1,1,1", "AAPL,2012-05-18,1,1,1,1,1", "AAPL,2024-05-17,1,1,1,1,1"]
)
def test_prices_of_somebody_s_own_stay_alone(engine: sa.Engine, tmp_path: Path, line: str) -> None:
    (tmp_path / "own.csv").write_text(HEADER + line)
    import_prices(engine, tmp_path / "own.csv")
    assert not sample.load_sample(engine)
    assert counts(engine)["daily_prices"] == 1


def test_what_was_deleted_later_stays_deleted(engine: sa.Engine) -> None:
    sample.load_sample(engine)
    with engine.begin() as connection:
        connection.execute(sa.delete(DailyPrice))
    assert not sample.load_sample(engine)
    assert counts(engine)["daily_prices"] == 0
