"""Which rows of prices are taken, and what is said of the others."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from app.market.ingest.prices import price_row
from app.market.ingest.rows import Refusal

GOOD = {
    "symbol": "AAPL",
    "date": "2012-05-18",
    "open": "10",
    "high": "12.5",
    "low": "9.5",
    "close": "11",
    "adj_close": None,
    "volume": "100",
    "period": None,
}


def taken(**changed: Any) -> dict[str, Any]:
    return price_row(tuple({**GOOD, **changed}.values()))


def test_a_good_row_is_exact_numbers_and_a_day() -> None:
    assert taken(adj_close="10.9999994") == {
        "symbol": "AAPL",
        "date": date(2012, 5, 18),
        "open": Decimal("10.000000"),
        "high": Decimal("12.500000"),
        "low": Decimal("9.500000"),
        "close": Decimal("11.000000"),
        "adj_close": Decimal("10.999999"),
        "volume": 100,
    }


@pytest.mark.parametrize(
    "day",
    [
        "20120518",
        " 2012-05-18 ",
        "2012-05-18 00:00:00-04:00",
        "2012-05-18T00:00:00Z",
        date(2012, 5, 18),
        datetime(2012, 5, 18),  # noqa: DTZ001 - Parquet's timestamps may be without a zone
        datetime(2012, 5, 18, tzinfo=UTC),
    ],
)
def test_a_day_may_be_written_in_the_ways_of_the_known_formats(day: object) -> None:
    assert taken(date=day)["date"] == date(2012, 5, 18)


@pytest.mark.parametrize("symbol", ["aapl", " AAPL ", "Aapl"])
def test_a_symbol_is_the_same_in_any_spelling(symbol: str) -> None:
    assert taken(symbol=symbol)["symbol"] == "AAPL"


@pytest.mark.parametrize("symbol", ["^GSPC", "BRK-B", "005930.KS", "EURUSD=X", "M&M.NS", "$SPX"])
def test_symbols_of_exchanges_are_taken_as_they_are(symbol: str) -> None:
    assert taken(symbol=symbol)["symbol"] == symbol


@pytest.mark.parametrize("volume", ["1e3", "1000.0", 1000, 1000.0, Decimal(1000)])
def test_a_whole_volume_may_be_written_as_any_number(volume: object) -> None:
    assert taken(volume=volume)["volume"] == 1000


def test_a_price_from_parquet_is_what_its_float_shows() -> None:
    assert taken(open=10.1)["open"] == Decimal("10.100000")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"high": "9"}, "high 9 is below low 9.5"),
        ({"open": "9.4"}, "open 9.4 is not between low 9.5 and high 12.5"),
        ({"close": "13"}, "close 13 is not between low 9.5 and high 12.5"),
        ({"open": ""}, "open is empty"),
        ({"open": None}, "open is empty"),
        ({"open": "null"}, "open 'null' is not a number"),
        ({"open": "NaN"}, "open 'NaN' is not a number"),
        ({"open": "1_0"}, "open '1_0' is not a number"),
        ({"open": "１０"}, r"open '\uff11\uff10' is not a number"),
        ({"open": float("nan")}, "open 'nan' is not a number"),
        ({"open": "-inf"}, "open '-inf' is not a number"),
        ({"open": "inf"}, "open inf is not above 0 and below 1,000,000,000"),
        ({"low": "0"}, "low 0 is not above 0 and below 1,000,000,000"),
        ({"low": "-1"}, "low -1 is not above 0 and below 1,000,000,000"),
        ({"adj_close": "1e-7"}, "adj_close 1e-7 is not above 0 and below 1,000,000,000"),
        ({"high": "1e9"}, "high 1e9 is not above 0 and below 1,000,000,000"),
        ({"high": "1e999999"}, "high 1e999999 is not above 0 and below 1,000,000,000"),
        ({"volume": "1.5"}, "volume 1.5 is not a whole number from 0 to 9,223,372,036,854,775,807"),
        ({"volume": "-1"}, "volume -1 is not a whole number from 0 to 9,223,372,036,854,775,807"),
        ({"volume": "1e19"}, "volume 1e19 is not a whole number from 0 to 9,223,372,036,854,775,807"),
        ({"volume": "Infinity"}, "volume Infinity is not a whole number from 0 to 9,223,372,036,854,775,807"),
        ({"volume": "nan"}, "volume 'nan' is not a number"),
        ({"volume": ""}, "volume is empty"),
        ({"date": ""}, "date is empty"),
        ({"date": None}, "date is empty"),
        ({"date": "18/05/2012"}, "date '18/05/2012' is not a day written as 2000-03-01 or 20000301"),
        ({"date": "2012-02-30"}, "date '2012-02-30' is not a day written as 2000-03-01 or 20000301"),
        ({"date": "2012-W20-5"}, "date '2012-W20-5' is not a day written as 2000-03-01 or 20000301"),
        ({"date": "2012-05-18 09:30"}, "date '2012-05-18 09:30' is not a day written as 2000-03-01 or 20000301"),
        ({"date": "0999-12-31"}, "date 0999-12-31 is before the year 1000"),
        (
            {"date": datetime(2012, 5, 18, 9, tzinfo=UTC)},
            "date 2012-05-18 09:00:00+00:00 has a time of day; daily prices have none",
        ),
        ({"symbol": ""}, "symbol is empty"),
        ({"symbol": None}, "symbol is empty"),
        ({"symbol": "A" * 17}, "symbol 'AAAAAAAAAAAAAAAAA' is longer than 16 characters"),
        ({"symbol": "A B"}, "symbol 'A B' has characters other than letters, digits and . ^ = _ & $ + : -"),
        ({"symbol": "삼성"}, r"symbol '\uc0bc\uc131' has characters other than letters, digits and . ^ = _ & $ + : -"),
        ({"symbol": b"AAPL"}, "symbol b'AAPL' is not text"),
        ({"period": "60"}, "period '60' is not D, a day"),
    ],
)
def test_a_bad_row_is_refused_with_the_reason(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refusal) as refusal:
        taken(**changed)
    assert str(refusal.value) == reason
