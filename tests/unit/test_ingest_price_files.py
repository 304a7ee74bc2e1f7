"""Price files in every shape that is known, and those in none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from app.market.ingest.files import opened
from app.market.ingest.price_files import price_file
from app.market.ingest.rows import BadRow, UnusableFile

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


def read(path: Path, symbol: str | None = None) -> list[Any]:
    with opened(path) as file:
        return list(price_file(path, file, symbol).rows)


YAHOO = "Date,Open,High,Low,Close,Adj Close,Volume\n2012-05-18,42.05,45,38,38.23,38.23,573576400\n"
STOOQ = "Date,Open,High,Low,Close,Volume\r\n2012-05-18,42.05,45,38,38.23,573576400\r\n"
STOOQ_BULK = (
    "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\r\n"
    "FB.US,D,20120518,000000,42.05,45,38,38.23,573576400,0\r\n"
)
PLAIN = "symbol,date,open,high,low,close,volume\nFB,2012-05-18,42.05,45,38,38.23,573576400\n"
NUMBERS = ("42.05", "45", "38", "38.23")


@pytest.mark.parametrize(
    ("name", "content", "cells"),
    [
        ("fb.csv", YAHOO, ("FB", "2012-05-18", *NUMBERS, "38.23", "573576400", None)),
        ("fb.csv", STOOQ, ("FB", "2012-05-18", *NUMBERS, None, "573576400", None)),
        ("fb.us.txt", STOOQ_BULK, ("FB.US", "20120518", *NUMBERS, None, "573576400", "D")),
        ("prices.csv", PLAIN, ("FB", "2012-05-18", *NUMBERS, None, "573576400", None)),
        ("prices.csv", "\ufeff" + PLAIN, ("FB", "2012-05-18", *NUMBERS, None, "573576400", None)),
        ("prices.csv", "\n\n" + PLAIN.replace("\n", "\n\n"), ("FB", "2012-05-18", *NUMBERS, None, "573576400", None)),
        ("prices.csv", PLAIN.replace("FB", '"FB"'), ("FB", "2012-05-18", *NUMBERS, None, "573576400", None)),
    ],
    ids=["yahoo", "stooq", "stooq-bulk", "plain", "byte-order-mark", "blank-lines", "quoted"],
)
def test_each_known_format_gives_the_same_cells(write: Write, name: str, content: str, cells: tuple[str, ...]) -> None:
    assert [row[1] for row in read(write(name, content))] == [cells]


def test_a_given_symbol_goes_before_the_name_of_the_file(write: Write) -> None:
    assert read(write("download.csv", YAHOO), "meta")[0][1][0] == "META"


def test_a_line_is_counted_as_an_editor_counts_it(write: Write) -> None:
    content = PLAIN + "\n" + "FB,2012-05-21\n" + PLAIN.splitlines()[1]
    found = read(write("p.csv", content))
    assert [row.line if isinstance(row, BadRow) else row[0] for row in found] == [2, 4, 5]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"FB,2012-05-18", "has 2 fields, the header has 7"),
        (b'FB,"2012-05-18,1,1,1,1,1', "is not CSV: unexpected end of data"),
        (b"FB\xff,2012-05-18,1,1,1,1,1", "is not UTF-8 at byte 3"),
        (b"x" * 70_000, "is longer than 65,536 bytes"),
    ],
    ids=["short", "open-quote", "latin-1", "endless"],
)
def test_a_line_that_cannot_be_read_spoils_no_other(write: Write, line: bytes, reason: str) -> None:
    header, good = PLAIN.encode().splitlines()
    found = read(write("p.csv", b"\n".join([header, good, line, good])))
    assert found[1] == BadRow(3, reason)
    assert found[0][1] == found[2][1]


def test_columns_may_stand_in_any_order_and_others_are_passed_over(write: Write) -> None:
    content = "Volume,Dividends,Close,Low,High,Open,Date\n7,0,4,2,5,3,2012-05-18\n"
    assert read(write("FB.csv", content)) == [(2, ("FB", "2012-05-18", "3", "5", "2", "4", None, "7", None))]


@pytest.mark.parametrize(
    ("name", "content", "symbol", "message"),
    [
        ("a.csv", "", None, "is empty"),
        ("a.csv", "a,b,c\n", None, "has the unknown header 'a,b,c' (no date); known are"),
        ("a.csv", PLAIN.replace("volume", "date"), None, "(no volume)"),
        ("a.csv", PLAIN.replace("\n", ",x\n", 1).replace(",x", ",High"), None, "more than one column named high"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\xff\xfe", None, "is neither CSV in UTF-8 nor Parquet"),
        ("a.csv", PLAIN, "FB", "has a symbol column; leave --symbol out"),
        ("FB (1).csv", YAHOO, None, "give one with --symbol"),
        ("FB.csv", YAHOO, "F B", "--symbol is no symbol"),
        ("prices.parquet", PLAIN, None, "is not a Parquet file, whatever its name says; if it is text, rename it"),
        ("prices.parquet", b"PAR1 and then nothing", None, "is a damaged Parquet file"),
    ],
)
def test_a_file_that_is_no_price_file_is_refused_as_a_whole(
    write: Write, name: str, content: str | bytes, symbol: str | None, message: str
) -> None:
    with pytest.raises(UnusableFile) as refusal:
        read(write(name, content), symbol)
    assert message in str(refusal.value)
    assert name in str(refusal.value)


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match=r"none\.csv cannot be read: No such file or directory"):
        read(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["prices.parquet", "prices.csv"])
def test_parquet_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    days = pa.array([1_337_299_200_000_000_000], pa.timestamp("ns"))
    columns = {"Date": days, "Open": [42.05], "High": [45.0], "Low": [38.0], "Close": [38.23], "Volume": [573576400]}
    pa.parquet.write_table(pa.table(columns), tmp_path / name)
    ((number, cells),) = read(tmp_path / name, "FB")
    assert number == 1
    assert cells[0] == "FB"
    assert str(cells[1]) == "2012-05-18 00:00:00"
    assert cells[2:] == (42.05, 45.0, 38.0, 38.23, None, 573576400, None)
