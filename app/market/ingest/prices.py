"""Daily prices from files: every row checked before it may enter the table."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from app.common.infra.database.config.database_config import Base
from app.market.bulk_insert import Row
from app.market.ingest.files import opened
from app.market.ingest.load import Source, load
from app.market.ingest.price_files import Cells, price_file
from app.market.ingest.rows import BadRow, Checked, Counts, Refusal, ignored
from app.market.ingest.symbols import symbol_of
from app.market.models import DailyPrice
from app.progress import Progress, silent

DAILY_PRICES: Final = Base.metadata.tables[DailyPrice.__tablename__]
PRICE_STEP: Final = Decimal("0.000001")
PRICE_LIMIT: Final = Decimal(1_000_000_000)  # SQLite keeps 15 digits: nine before the point leave six behind it
VOLUME_LIMIT: Final = 2**63
FIRST_YEAR: Final = 1000  # MariaDB's dates begin there
ROW_BYTES: Final = 200  # ten thousand rows in a batch

# 2000-03-01, 20000301, and what pandas makes of a day: 2000-03-01 00:00:00-05:00
DAY: Final = re.compile(r"(\d{4}-\d{2}-\d{2}|\d{8})(?:[ T]00:00(?::00(?:\.0+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?", re.ASCII)


def import_prices(
    engine: Engine,
    path: Path,
    *,
    symbol: str | None = None,
    strict: bool = False,
    tell: Callable[[BadRow], None] = ignored,
    progress: Progress = silent,
) -> Counts:
    """The file's good rows are in ``daily_prices`` and their symbols in ``symbols``.

    Raises:
        UnusableFile: the file as a whole is no price file; nothing was changed.
        StrictlyRefused, ImportStopped: as :func:`app.market.ingest.load.load` says.
    """
    with opened(path) as file:
        found = price_file(path, file, symbol)
        source = Source(path.name, checked(found.rows), row_weight, found.total, tell, progress)
        return load(engine, DAILY_PRICES, source, strict=strict)


def checked(rows: Iterable[tuple[int, Cells] | BadRow]) -> Iterator[Checked]:
    """Each row as the table takes it, or what is wrong with it."""
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        number, cells = row
        try:
            yield price_row(cells)
        except Refusal as refusal:
            yield BadRow(number, str(refusal))


def price_row(cells: Cells) -> Row:
    """The row for ``daily_prices``.

    Raises:
        Refusal: a value is none, or the values contradict each other.
    """
    symbol, day, opening, high, low, closing, adjusted, volume, period = cells
    if period is not None and period != "D":
        raise Refusal(f"period {period!a} is not D, a day")
    row = {
        "symbol": _symbol(symbol),
        "date": _day(day),
        "open": _price("open", opening),
        "high": _price("high", high),
        "low": _price("low", low),
        "close": _price("close", closing),
        "adj_close": None if adjusted is None or adjusted == "" else _price("adj_close", adjusted),
        "volume": _volume(volume),
    }
    _check_range(row)
    return row


def _check_range(row: Row) -> None:
    low, high = row["low"], row["high"]
    if high < low:
        raise Refusal(f"high {_shown(high)} is below low {_shown(low)}")
    for name in ("open", "close"):
        if not low <= row[name] <= high:
            raise Refusal(f"{name} {_shown(row[name])} is not between low {_shown(low)} and high {_shown(high)}")


def _symbol(value: Any) -> str:
    if not isinstance(value, str):
        raise Refusal("symbol is empty" if value is None else f"symbol {value!a} is not text")
    return symbol_of(value)


def _day(value: Any) -> date:
    if isinstance(value, datetime):
        if value.time() != time():
            raise Refusal(f"date {value} has a time of day; daily prices have none")
        value = value.date()
    if isinstance(value, date):
        return _in_range(value)
    return _day_of_text(value if isinstance(value, str) else str(value or ""))


@lru_cache(maxsize=65_536)  # the same days come again with every symbol
def _day_of_text(text: str) -> date:
    if not text.strip():
        raise Refusal("date is empty")
    found = DAY.fullmatch(text.strip())
    try:
        return _in_range(date.fromisoformat(found[1] if found else text[:0]))
    except ValueError as error:
        if isinstance(error, Refusal):
            raise
        raise Refusal(f"date {text[:40]!a} is not a day written as 2000-03-01 or 20000301") from None


def _in_range(day: date) -> date:
    if day.year < FIRST_YEAR:
        raise Refusal(f"date {day} is before the year {FIRST_YEAR}")
    return day


def _decimal(value: Any) -> Decimal:
    """The number as files write it; Python would also read 1_000 and the digits of other scripts."""
    text = value if isinstance(value, str) else str(value)
    if "_" in text or not text.isascii():
        raise InvalidOperation
    return Decimal(text)


def _price(name: str, value: Any) -> Decimal:
    try:
        amount = _decimal(value)
        if amount < PRICE_LIMIT:
            amount = amount.quantize(PRICE_STEP)
            if amount > 0:
                return amount
    except InvalidOperation:  # also what NaN raises when compared
        raise Refusal(f"{name} {_not_a_number(value)}") from None
    raise Refusal(f"{name} {str(value)[:40]} is not above 0 and below {PRICE_LIMIT:,}")


def _volume(value: Any) -> int:
    try:
        amount = _decimal(value)
        if 0 <= amount < VOLUME_LIMIT and amount == (whole := int(amount)):
            return whole
    except InvalidOperation:
        raise Refusal(f"volume {_not_a_number(value)}") from None
    raise Refusal(f"volume {str(value)[:40]} is not a whole number from 0 to {VOLUME_LIMIT - 1:,}")


def _not_a_number(value: Any) -> str:
    return "is empty" if value is None or value == "" else f"{str(value)[:40]!a} is not a number"


def _shown(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def row_weight(_row: Row) -> int:
    """About how many bytes of memory a row of prices takes."""
    return ROW_BYTES
