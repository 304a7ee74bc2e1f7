"""Price files in their several shapes, read as one: a row number and the cells that matter, in one order."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from app.market.ingest.files import Readable, numbered_lines
from app.market.ingest.rows import BadRow, Refusal, UnusableFile
from app.market.ingest.symbols import symbol_of

LINE_LIMIT_BYTES: Final = 65_536  # a hundred times what a day's prices take
PARQUET_BATCH_ROWS: Final = 10_000
PARQUET_MAGIC: Final = b"PAR1"
PARQUET_SUFFIXES: Final = {".parquet", ".pq"}

CELLS: Final = ("symbol", "date", "open", "high", "low", "close", "adj_close", "volume", "period")
REQUIRED: Final = ("date", "open", "high", "low", "close", "volume")
OTHER_NAMES: Final = {"ticker": "symbol", "vol": "volume", "per": "period"}
KNOWN_HEADERS: Final = (
    "symbol,date,open,high,low,close,volume or Date,Open,High,Low,Close,Adj Close,Volume or "
    "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>"
)

Cells = tuple[Any, ...]
"""One row's values in the order of ``CELLS``; None where the file has no such column."""


@dataclass(frozen=True)
class PriceFile:
    """The rows of a file, and how many there are where the file says so."""

    rows: Iterable[tuple[int, Cells] | BadRow]
    total: int | None = None


def price_file(path: Path, file: BufferedReader, symbol: str | None) -> PriceFile:
    """The file's rows; what it is, its content says.

    ``symbol`` is for files without a column of that name; their own name is the symbol otherwise.

    Raises:
        UnusableFile: it is no price file, or it does not say whose prices these are.
    """
    start = file.peek(len(PARQUET_MAGIC))[: len(PARQUET_MAGIC)]
    if not start:
        raise UnusableFile(f"{path} is empty")
    if start == PARQUET_MAGIC:
        return _parquet(path, file, symbol)
    if path.suffix.lower() in PARQUET_SUFFIXES:
        raise UnusableFile(f"{path} is not a Parquet file, whatever its name says; if it is text, rename it to .csv")
    return PriceFile(csv_rows(path, file, symbol))


def csv_rows(path: Path, file: Readable, symbol: str | None = None) -> Iterator[tuple[int, Cells] | BadRow]:
    """The rows below the header; every line stands alone, so that an open quote swallows no others.

    Raises:
        UnusableFile: the header is none that is known.
    """
    lines = numbered_lines(file, LINE_LIMIT_BYTES)
    _, first = next(lines, (1, b""))
    names = _header(path, first)
    pick = _picker(path, names, symbol)
    return _picked(lines, len(names), pick)


def _picked(
    lines: Iterable[tuple[int, bytes]], width: int, pick: Callable[[Sequence[Any]], Cells]
) -> Iterator[tuple[int, Cells] | BadRow]:
    for number, line in lines:
        try:
            cells = _split(line)
            if len(cells) != width:
                raise Refusal(f"has {len(cells)} fields, the header has {width}")
            yield number, pick(cells)
        except Refusal as refusal:
            yield BadRow(number, str(refusal))


def _split(line: bytes) -> list[str]:
    if len(line) > LINE_LIMIT_BYTES:
        raise Refusal(f"is longer than {LINE_LIMIT_BYTES:,} bytes")
    try:
        text = line.decode()
        return next(csv.reader([text], strict=True)) if '"' in text else text.split(",")
    except UnicodeDecodeError as error:
        raise Refusal(f"is not UTF-8 at byte {error.start + 1}") from None
    except csv.Error as error:
        raise Refusal(f"is not CSV: {error}") from None


def _header(path: Path, line: bytes) -> list[str]:
    try:
        return _split(line)
    except Refusal:
        raise UnusableFile(f"{path} is neither CSV in UTF-8 nor Parquet") from None


def _picker(path: Path, header: Sequence[str], symbol: str | None) -> Callable[[Sequence[Any]], Cells]:
    """What brings a row of the file into the order of ``CELLS``."""
    names = [_plain(name) for name in header]
    _check_header(path, header, names)
    if "symbol" in names and symbol is not None:
        raise UnusableFile(f"{path} has a symbol column; leave --symbol out")
    own_symbol = None if "symbol" in names else _own_symbol(path, symbol)
    # Two values stand behind each row for the columns that it lacks: the file's symbol, and nothing.
    behind = {"symbol": len(names)}
    order = [names.index(name) if name in names else behind.get(name, len(names) + 1) for name in CELLS]
    take = itemgetter(*order)
    return lambda cells: take([*cells, own_symbol, None])


def _check_header(path: Path, header: Sequence[str], names: Sequence[str]) -> None:
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        shown = ",".join(header)[:80]
        raise UnusableFile(f"{path} has the unknown header {shown!a} (no {missing[0]}); known are {KNOWN_HEADERS}")
    twice = [name for name in CELLS if names.count(name) > 1]
    if twice:
        raise UnusableFile(f"{path} has more than one column named {twice[0]}")


def _plain(name: str) -> str:
    """The column's name as we call it: "<VOL>" is volume, "Adj Close" is adj_close."""
    plain = name.strip().strip("<>").lower().replace(" ", "_")
    return OTHER_NAMES.get(plain, plain)


def _own_symbol(path: Path, symbol: str | None) -> str:
    try:
        return symbol_of(path.stem if symbol is None else symbol)
    except Refusal as refusal:
        raise UnusableFile(
            f"{path} has no symbol column and {'its name' if symbol is None else '--symbol'} is no symbol "
            f"({refusal}); give one with --symbol"
        ) from None


def _parquet(path: Path, file: BufferedReader, symbol: str | None) -> PriceFile:
    from pyarrow import ArrowException  # slow to import, and most files are text
    from pyarrow.parquet import ParquetFile

    try:
        parquet = ParquetFile(file)
    except (ArrowException, OSError) as error:
        raise UnusableFile(f"{path} is a damaged Parquet file: {_first_line(error)}") from None
    header = parquet.schema_arrow.names
    pick = _picker(path, header, symbol)
    return PriceFile(_parquet_rows(path, parquet, pick), parquet.metadata.num_rows)


def _parquet_rows(
    path: Path, parquet: Any, pick: Callable[[Sequence[Any]], Cells]
) -> Iterator[tuple[int, Cells] | BadRow]:
    from pyarrow import ArrowException

    number = 0
    try:
        for batch in parquet.iter_batches(PARQUET_BATCH_ROWS):
            for cells in zip(*map(_values, batch.columns), strict=True):
                number += 1
                yield number, pick(cells)
    except (ArrowException, OSError) as error:
        raise UnusableFile(f"{path} is damaged after row {number}: {_first_line(error)}") from None


def _values(column: Any) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):  # nanoseconds would become objects of pandas
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return list(column.to_pylist())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
