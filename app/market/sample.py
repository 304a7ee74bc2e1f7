"""Real prices for a database that has none: AAPL, FB, GOOG, IBM and MSFT from 2000-03-01 to 2013-03-01.

They come with the package ``bokeh_sampledata``, whose source declared them public domain. They walk the same road as
a user's own file.
"""

import gzip
from datetime import date
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, func, select, update

from app.market.ingest.load import Source, load
from app.market.ingest.price_files import csv_rows
from app.market.ingest.prices import DAILY_PRICES, checked, row_weight
from app.market.ingest.rows import ImportStopped
from app.market.models import DailyPrice, Symbol
from app.market.refresh import compute_signals
from app.progress import Progress, silent

NAMES: Final = {
    "AAPL": "Apple Inc.",
    "FB": "Facebook, Inc.",
    "GOOG": "Google Inc.",
    "IBM": "International Business Machines Corporation",
    "MSFT": "Microsoft Corporation",
}
"""As the companies were called when the series end."""

DAYS: Final = {"AAPL": 3270, "FB": 196, "GOOG": 2148, "IBM": 3270, "MSFT": 3270}
ROWS: Final = sum(DAYS.values())
LAST_DAY: Final = date(2013, 3, 1)


def load_sample(engine: Engine, progress: Progress = silent) -> bool:
    """The sample, its signals and their outcomes are in the database, unless it has prices of its own.

    Returns whether there was anything to do. The companies' names go in last and say that all of it was loaded once:
    a load that was cut off is completed by the next one, and what was deleted later stays deleted.
    """
    with engine.connect() as connection:
        if _was_loaded(connection) or not (_no_prices(connection) or _sample_prices_alone(connection)):
            return False
    _load_prices(engine, progress)
    compute_signals(engine, sorted(NAMES), progress)
    with engine.begin() as connection:
        for symbol, name in NAMES.items():
            connection.execute(update(Symbol).where(Symbol.symbol == symbol).values(name=name))
    return True


def _was_loaded(connection: Connection) -> bool:
    named = select(func.count()).select_from(Symbol).where(Symbol.symbol.in_(NAMES), Symbol.name.is_not(None))
    return connection.scalar(named) == len(NAMES)


def _no_prices(connection: Connection) -> bool:
    return connection.execute(select(DailyPrice.id).limit(1)).first() is None


def _sample_prices_alone(connection: Connection) -> bool:
    """Whether the prices are the sample's, all of them and no others; cheap on a large table as well."""
    foreign = select(DailyPrice.id).where(DailyPrice.symbol.not_in(NAMES) | (DailyPrice.date > LAST_DAY)).limit(1)
    if connection.execute(foreign).first() is not None:
        return False
    days = select(DailyPrice.symbol, func.count().label("days")).group_by(DailyPrice.symbol)
    return {row.symbol: row.days for row in connection.execute(days)} == DAYS


def _load_prices(engine: Engine, progress: Progress) -> None:
    """All prices of the sample are there: in one transaction, so that there is never a part of them."""
    from bokeh_sampledata import package_path  # the package's other ways in are slower, or bring pandas

    path = Path(package_path("stocks.csv.gz"))
    try:
        with gzip.open(path, "rb") as file:
            source = Source("prices", checked(csv_rows(path, file)), row_weight, ROWS, progress=progress)
            load(engine, DAILY_PRICES, source, strict=True)
    except ImportStopped as stopped:
        raise stopped.cause from None
